"""Episodes of neighbours say something of a member."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from balrl.run import pooling
from balrl.run.halving import Halving
from balrl.run.pooling import Place, pool
from tests.run.test_halving import play

LINE = [Place(i / 7) for i in range(8)]


def test_one_hypothesis_is_the_textbook_s_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LIKENESS", (0.5,))
    monkeypatch.setattr(pooling, "WIDTHS", (0.25,))
    values, x = [[1.0, 3.0], [5.0], []], np.array([0.0, 0.25, 1.0])
    found = pool(values, [Place(float(v)) for v in x])
    assert found is not None
    noise = (2 + 0 + 0.25 * 16) / (3 - 2 + 1)
    prior = noise * (0.5 * np.exp(-0.5 * ((x[:, None] - x) / 0.25) ** 2) + 1)
    data = prior[:2, :2] + np.diag([noise / 2, noise])
    seen = np.array([2.0, 5.0]) - 3
    np.testing.assert_allclose(found.mean, 3 + prior[:, :2] @ np.linalg.inv(data) @ seen)
    np.testing.assert_allclose(found.covariance, prior - prior[:, :2] @ np.linalg.inv(data) @ prior[:2])
    z = (found.mean[1] - found.mean[0]) / np.sqrt(found.covariance[[0, 1], [0, 1]].sum() - 2 * found.covariance[0, 1])
    assert found.probability_above(1, 0) == pytest.approx(NormalDist().cdf(z))
    assert found.probability_above(1, 0) == pytest.approx(1 - found.probability_above(0, 1))


def test_neighbours_are_drawn_together_and_strangers_are_not() -> None:
    values = [[0.0, 10.0, 5.0]] * 3 + [[20.0, 30.0, 25.0]] * 4 + [[]]
    near = pool(values, LINE)
    far = pool(values, [*LINE[:7], Place(None, False)])
    assert near is not None
    assert far is not None
    assert near.mean[7] > 18 > far.mean[7]
    assert near.covariance[7, 7] < far.covariance[7, 7]


def test_no_episode_and_no_difference() -> None:
    assert pool([[], []], LINE[:2]) is None
    same = pool([[2.0], [2.0], []], LINE[:3])
    assert same is not None
    assert same.mean.tolist() == [2.0, 2.0, 2.0]
    assert same.probability_above(1, 0) == 0.5
    assert same.interval(0) == {"mean": 2.0, "low": 2.0, "high": 2.0}


@settings(max_examples=40)
@given(
    values=st.lists(st.lists(st.floats(-1e3, 1e3), max_size=5), min_size=2, max_size=9),
    scale=st.floats(1e-9, 1e9),
    shift=st.floats(-1e3, 1e3),
)
def test_units_change_nothing(values: list[list[float]], scale: float, shift: float) -> None:
    places = [Place(None, False), *(Place(i / 8, i % 2 == 0) for i in range(len(values) - 1))]
    found, other = pool(values, places), pool([[scale * (v + shift) for v in row] for row in values], places)
    if found is None or np.ptp(np.concatenate([np.asarray(row) for row in values])) < 1e-3:
        return
    assert other is not None
    size = scale * (max(1.0, *(abs(v) for row in values for v in row)) + abs(shift))
    np.testing.assert_allclose(other.mean, scale * (found.mean + shift), atol=1e-6 * size)
    assert other.probability_above(1, 0) == pytest.approx(found.probability_above(1, 0), abs=1e-6)
    assert (np.linalg.eigvalsh(found.covariance) > -1e-6 * max(1.0, float(np.abs(found.covariance).max()))).all()


def test_a_spike_that_many_episodes_show_is_not_smoothed_away() -> None:
    rng = np.random.default_rng(0)
    worth = [85, 80, 80, 80, 0, 100, 0, 0, 0]
    found = pool([list(m + rng.normal(size=30)) for m in worth], [Place(1.0, False), *LINE])
    assert found is not None
    np.testing.assert_allclose(found.mean, worth, atol=1)
    assert found.probability_above(5, 0) > 0.99


def test_a_smooth_family_is_chosen_from_better_than_by_each_arm_alone() -> None:
    """A line of eight members, noise five times what lies between neighbours, some four episodes of each."""
    worth = {True: 0.0, False: 0.0}
    for pooled in (True, False):
        for seed in range(60):
            rng = np.random.default_rng(seed)

            def episode(arm: int, rng: np.random.Generator = rng) -> tuple[float, int]:
                return (arm if arm >= 0 else 0.0) + 5 * rng.normal(), 10

            halving = Halving(8, 360, 1, 0.5, LINE if pooled else [])
            worth[pooled] += play(halving, episode).winner() / 60
    assert worth[True] > worth[False] + 0.3
