"""Conservative objectives: their values, and what must hold between them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from balrl.errors import UserError
from balrl.rewards import OBJECTIVES, conservative

SCORES = torch.tensor([[1.0, -2.0], [3.0, 0.0], [5.0, 5.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("objective", "coefficient", "expected"),
    [
        ("single", None, [1.0, -2.0]),
        ("single", 2, [5.0, 5.0]),
        ("mean", None, [3.0, 1.0]),
        ("wco", None, [1.0, -2.0]),
        ("uwo", None, [3 - 0.5 * 8 / 3, 1 - 0.5 * 26 / 3]),  # the population variance
        ("uwo", 0.1, [3 - 0.1 * 8 / 3, 1 - 0.1 * 26 / 3]),
        ("softmin", 1.0, [-math.log(sum(math.exp(-r) for r in rs) / 3) for rs in ([1, 3, 5], [-2, 0, 5])]),
        ("softmin", 0.0, [3.0, 1.0]),
        ("softmin", math.inf, [1.0, -2.0]),
        ("quantile", None, [2.0, -1.0]),
        ("quantile", 0.0, [1.0, -2.0]),
    ],
)
def test_exact_values(objective: str, coefficient: float | None, expected: list[float]) -> None:
    torch.testing.assert_close(
        conservative(SCORES, objective, coefficient),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-12,
        atol=1e-12,
    )


members = st.integers(1, 6).flatmap(
    lambda k: st.lists(st.lists(st.floats(-50, 50), min_size=k, max_size=k), min_size=1, max_size=4)
)


@given(rows=members, strength=st.floats(0, 5))
@settings(max_examples=60)
def test_order_of_the_objectives(rows: list[list[float]], strength: float) -> None:
    scores = torch.tensor(rows, dtype=torch.float64).T
    mean, worst = conservative(scores, "mean"), conservative(scores, "wco")
    assert (mean >= conservative(scores, "uwo", strength) - 1e-9).all()
    assert (mean >= worst - 1e-9).all()
    soft = conservative(scores, "softmin", strength)
    assert ((soft <= mean + 1e-6) & (soft >= worst - 1e-6)).all()
    if len(scores) == 1:
        for objective in OBJECTIVES:
            torch.testing.assert_close(conservative(scores, objective), scores[0], rtol=1e-9, atol=1e-9)


def test_softmin_is_exact_for_weak_and_strong_temperatures_in_single_precision() -> None:
    for strength in (1e-6, 1e-3, 0.3, 10.0, 1e4):
        wanted = conservative(SCORES, "softmin", strength)
        torch.testing.assert_close(
            conservative(SCORES.float(), "softmin", strength).double(), wanted, rtol=0, atol=2e-6
        )


def test_softmin_is_uwo_to_second_order() -> None:
    close = 2 + 1e-3 * SCORES
    torch.testing.assert_close(conservative(close, "softmin", 1.0), conservative(close, "uwo", 0.5), rtol=0, atol=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_the_derivative(objective: str) -> None:
    def of(scores: Tensor) -> Tensor:
        return conservative(scores, objective)

    assert torch.autograd.gradcheck(of, SCORES.clone().requires_grad_())


def test_a_member_that_is_not_a_number_is_named_and_never_averaged_away() -> None:
    broken = SCORES.clone()
    broken[1, 0] = math.nan
    with pytest.raises(UserError, match="member 1 of 3 gave scores that are not finite"):
        conservative(broken)
    for objective in ("mean", "wco", "uwo", "softmin", "quantile"):
        assert conservative(broken, objective, check=False)[0].isnan()


@pytest.mark.parametrize(
    ("objective", "coefficient", "message"),
    [
        ("wc", None, "did you mean 'wco'"),
        ("uwo", -0.1, "expected at least 0"),
        ("softmin", -1.0, "expected at least 0"),
        ("quantile", 1.5, r"expected in \[0, 1\]"),
        ("single", 3, "0 to 2"),
        ("single", 0.5, "0 to 2"),
    ],
)
def test_mistakes_are_explained(objective: str, coefficient: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        conservative(SCORES, objective, coefficient)


def test_each_objective_s_own_coefficient() -> None:
    """The paper's 0.5 for uncertainty weighting and 1 for the soft minimum; a quarter for the quantile."""
    assert OBJECTIVES == {"single": 0, "mean": 0, "wco": 0, "uwo": 0.5, "softmin": 1, "quantile": 0.25}
    for objective, value in OBJECTIVES.items():
        assert torch.equal(conservative(SCORES, objective), conservative(SCORES, objective, value))
    for wrong in (-0.1, 1.1):
        with pytest.raises(UserError, match=r"in \[0, 1\]"):
            conservative(SCORES, "quantile", wrong)
