"""Vector critics, utilities and preferences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.vector_critics import (
    PreferenceNormalizer,
    Utility,
    VectorQEnsemble,
    VectorValue,
    checked_preference,
    draw_preferences,
    with_preference,
)
from tests.agents import reference


def test_observations_with_a_preference_keep_it_and_others_get_the_agent_s() -> None:
    normalizer = PreferenceNormalizer(2, 3)
    normalizer.fit(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    assert normalizer.output_dim == 5
    x, w = torch.tensor([[3.0, 2.0]]), torch.tensor([[0.2, 0.3, 0.5]])
    torch.testing.assert_close(normalizer(torch.cat([x, w], -1)), torch.tensor([[1.0, 0.0, 0.2, 0.3, 0.5]]))
    torch.testing.assert_close(normalizer(x), torch.tensor([[1.0, 0.0, *[1 / 3] * 3]]))


def test_utilities_by_hand() -> None:
    v, w = torch.tensor([[1.0, -2.0], [3.0, 5.0]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert Utility()(v, w).tolist() == [0.25 - 1.5, 3.0]
    chebyshev = Utility((2.0, 4.0))
    assert chebyshev(v, w).tolist() == [min(0.25 * -1, 0.75 * -6), min(1.0 * 1, 0.0 * 1)]


@pytest.mark.parametrize("utopia", [None, (0.5, -1.0)])
def test_critics_give_vectors_and_called_their_utilities(utopia: tuple[float, ...] | None) -> None:
    critic = VectorQEnsemble(2, Utility(utopia), 5, 1, (4, 3), 3).double()
    observations, actions = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    expected = reference.q_values(critic, observations.numpy(), actions.numpy())
    vectors = critic.vectors(observations, actions)
    np.testing.assert_allclose(vectors.detach(), expected, rtol=1e-12)
    w = observations[:, -2:].numpy()
    by_hand = (expected * w).sum(-1) if utopia is None else (w * (expected - np.array(utopia, np.float32))).min(-1)
    np.testing.assert_allclose(critic(observations, actions).detach(), by_hand, rtol=1e-7)
    least = critic.least(observations, actions)
    for row in range(6):
        member = int(by_hand[:, row].argmin())
        np.testing.assert_allclose(least[row].detach(), expected[member, row], rtol=1e-12)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(critic(observations, actions, some), critic(observations, actions)[some])


def test_values_give_vectors_and_called_their_utilities() -> None:
    value = VectorValue(2, Utility(), 5, (4,)).double()
    observations = torch.randn(6, 5, dtype=torch.float64)
    vectors = reference.state_value(value, observations.numpy())
    np.testing.assert_allclose(value.vectors(observations).detach(), vectors, rtol=1e-12)
    np.testing.assert_allclose(
        value(observations).detach(), (vectors * observations[:, -2:].numpy()).sum(-1), rtol=1e-12
    )


def test_drawn_preferences_are_uniform_on_the_simplex() -> None:
    """Dirichlet(1, 1, 1): means 1/3, variances 1/18, and P(w_1 > 1/2) = 1/4."""
    w = draw_preferences(RandomStream(0).uniform(20_000, 3))
    torch.testing.assert_close(w.sum(-1), torch.ones(20_000))
    torch.testing.assert_close(w.mean(0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)
    torch.testing.assert_close(w.var(0), torch.full((3,), 1 / 18), atol=0.003, rtol=0)
    assert (w[:, 0] > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.012)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=2).filter(lambda w: sum(w) > 1e-3))
def test_a_preference_is_scaled_to_the_simplex(w: list[float]) -> None:
    found = checked_preference(w, 2)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    rows = with_preference(torch.zeros(3, 4), found)
    assert rows.shape == (3, 6)
    assert torch.equal(rows[2, 4:], found)


@pytest.mark.parametrize(
    ("preference", "objectives", "said"),
    [
        ([1.0], 1, "learned from one reward"),
        ([0.5, 0.5, 0.0], 2, r"shape \(3,\), expected \(2,\)"),
        ([-0.5, 1.5], 2, "at least 0"),
        ([0.0, 0.0], 2, "not all of them 0"),
        ([float("nan"), 1.0], 2, "at least 0"),
        (0.5, 2, r"shape \(\), expected"),
        ("abc", 2, "'abc', expected 2 numbers"),
        ([[1.0], [0.5, 0.5]], 2, "expected 2 numbers"),
        ([[1.0, 0.0], [0.0, 1.0]], 2, r"shape \(2, 2\), expected \(2,\)"),
    ],
)
def test_what_is_no_preference_is_refused(preference: object, objectives: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        checked_preference(preference, objectives)


def test_every_row_may_have_its_own_if_there_are_as_many() -> None:
    each = [[1.0, 0.0], [1.0, 3.0], [0.0, 2.0]]
    assert checked_preference(each, 2, rows=3).tolist() == [[1, 0], [0.25, 0.75], [0, 1]]
    with pytest.raises(UserError, match=r"shape \(3, 2\), expected \(2,\), one .*, or \(4, 2\) for each"):
        checked_preference(each, 2, rows=4)
