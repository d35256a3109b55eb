"""What agents' configurations cannot be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from balrl.agents.hyperparameters import CQLConfig, FixedBalance, IQLConfig, PPOConfig, SACConfig, StateAdaptiveBalance
from balrl.agents.registration import OWN


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StateAdaptiveBalance(5.0, 1.0), "minimum 5.0 is above maximum 1.0"),
        (lambda: StateAdaptiveBalance(1.0, 5.0, embedding_dim=5), "multiple of 2"),
        (lambda: StateAdaptiveBalance(), "Field required"),
        (lambda: FixedBalance(0.0), "greater than 0"),
        (lambda: IQLConfig(log_std_range=(2.0, 2.0)), "the lower bound 2 is not below the upper bound 2"),
        (lambda: SACConfig(critics=3, target_subset=4), "target_subset 4 is more than the 3 critics"),
        (lambda: CQLConfig(critics=3, penalty_members=4), "penalty_members 4 is more than the 3 critics"),
        (lambda: PPOConfig(kl_target=0.1), "needs a kl_coefficient above 0"),
        (lambda: SACConfig(expectile=0.7), "Extra inputs are not permitted"),
    ],
)
def test_contradictions_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()  # type: ignore[operator]


def test_bounds_and_coefficients_may_be_positional() -> None:
    assert StateAdaptiveBalance(1.0, 5.0) == StateAdaptiveBalance(minimum=1.0, maximum=5.0)
    assert FixedBalance(3.0).coefficient == 3.0


def test_configurations_cannot_be_changed_and_are_named_differently() -> None:
    for own in OWN:
        with pytest.raises(ValidationError, match="frozen"):
            own.config().name = "x"
    assert len({own.name for own in OWN}) == len(OWN)
