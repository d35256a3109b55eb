"""Sequential halving over episodes: fair in length, sure of a known bandit, true to its prior."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st

from balrl.run.halving import NOBODY, Halving, probability_above

Episode = Callable[[int], tuple[float, int]]


def play(halving: Halving, episode: Episode, steps: int | None = None) -> Halving:
    """Play what is dealt: `episode` gives each arm's next value and length."""
    left: list[int] = [0] * halving.worlds
    value: list[tuple[float, int]] = [(0.0, 0)] * halving.worlds
    for world in range(halving.worlds):
        value[world] = episode(halving.playing[world][0])
        left[world] = value[world][1]
    while halving.taken < (steps or halving.steps):
        left = [n - 1 for n in left]
        ended = {w: value[w] for w, n in enumerate(left) if n == 0}
        halving.advance(halving.worlds, ended)
        for world in ended:
            value[world] = episode(halving.playing[world][0])
            left[world] = value[world][1]
    return halving


def test_the_best_arm_of_a_known_bandit_is_found() -> None:
    """Means 0 to 1 with unit noise: the best of nine within 600 episodes in at least nine of ten runs."""
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        order = rng.permutation(9)

        def episode(arm: int, rng: np.random.Generator = rng, order: np.ndarray = order) -> tuple[float, int]:
            return (order[arm] / 4 if arm >= 0 else 0.0) + rng.normal(), 10

        halving = play(Halving(9, 6_000, 1), episode)
        found += order[halving.winner()] >= 7
        assert halving.alive[0] == 0
    assert found >= 27


@pytest.mark.parametrize("worlds", [1, 3, 10])
def test_arms_play_equally_often_however_long_their_episodes(worlds: int) -> None:
    halving = play(Halving(5, 4_000, worlds), lambda arm: (0.0, 7 + 10 * (arm % 3)))
    counts = [len(halving.counted(arm)) for arm in halving.alive]
    assert min(counts) > 0
    assert len(set(counts)) == 1


@pytest.mark.parametrize("worlds", [1, 8])
@pytest.mark.parametrize("bad_is_long", [True, False])
def test_no_arm_is_favoured_because_its_bad_or_good_episodes_are_long(worlds: int, bad_is_long: bool) -> None:
    """Two equal arms, one with lengths that depend on the value: both are estimated without bias."""
    difference = []
    for seed in range(120):
        rng = np.random.default_rng(seed)

        def episode(arm: int, rng: np.random.Generator = rng) -> tuple[float, int]:
            value = float(rng.random() < 0.5)
            long = (value == 0.0) == bad_is_long
            return value, 20 if arm != 1 else (60 if long else 5)

        halving = play(Halving(2, 40 * worlds * 8, worlds, 0.5), episode)
        difference.append(halving.mean(1) - halving.mean(0))
    spread = np.std(difference) / np.sqrt(len(difference))
    assert abs(np.mean(difference)) < 3 * spread


def test_equal_arms_keep_the_prior() -> None:
    assert play(Halving(9, 3_000, 2), lambda _: (1.0, 10)).winner() == 0
    kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        kept += play(Halving(5, 2_000, 2, 0.95), lambda _, r=rng: (r.normal(), 10)).winner() == 0
    assert kept >= 32


def test_too_few_steps_for_a_cycle_keep_the_prior() -> None:
    halving = play(Halving(9, 50, 4), lambda _: (1.0, 100))
    assert halving.winner() == 0
    assert halving.counted(0) == []


def test_an_episode_that_came_to_nothing_is_played_again() -> None:
    halving = Halving(2, 1_000, 1)
    assert halving.playing == [(0, 0)]
    halving.advance(1, {0: None})
    assert halving.playing == [(0, 0)]
    halving.advance(1, {0: (5.0, 1)})
    assert halving.playing == [(1, 0)]


@settings(max_examples=25, deadline=None)
@given(
    arms=st.integers(2, 9),
    worlds=st.integers(1, 12),
    steps=st.integers(10, 3_000),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_stopping_anywhere_changes_nothing(arms: int, worlds: int, steps: int, seed: int, share: float) -> None:
    """What is written down and read back deals and judges as if nobody had stopped; whoever wins was left."""

    def run(stop: int | None) -> Halving:
        rng, halving = np.random.default_rng(seed), Halving(arms, steps, worlds)
        left = rng.integers(1, 40, worlds).tolist()
        while halving.taken < steps:
            left = [n - 1 for n in left]
            ended = {w: (float(rng.normal()), int(rng.integers(1, 40))) for w, n in enumerate(left) if n == 0}
            halving.advance(worlds, ended)
            for world in ended:
                left[world] = int(rng.integers(1, 40))
            if stop is not None and halving.taken >= stop:
                halving, stop = Halving.from_state(json.loads(json.dumps(halving.state()))), None
        return halving

    whole, stopped = run(None), run(int(share * steps))
    assert whole == stopped
    assert whole.winner() in whole.alive
    assert len(whole.alive) >= min(2, arms)
    dealt = [d for d in (*whole.playing, *whole.queue) if d != NOBODY]
    assert len(set(dealt)) == len(dealt)


def test_probability_above() -> None:
    assert probability_above([], [1.0]) == 0.5
    assert probability_above([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert 0.5 < probability_above([1.0, 1.0], [0.0, 0.0]) < 0.99
    x, y = [3.0, 4.0, 5.0], [1.0, 2.0, 3.0]
    variance = (2 + 2 + 0.25 * 16) / 5
    z = 2 / np.sqrt(variance * (1 / 3 + 1 / 3))
    assert probability_above(x, y) == pytest.approx(scipy.stats.t.cdf(z, 5))
    assert probability_above(x, y) == pytest.approx(1 - probability_above(y, x))
