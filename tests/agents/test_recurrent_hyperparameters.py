"""Hyperparameters of the recurrent agent."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from balrl.agents import FixedBalance, RecurrentSACConfig


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"burn_in": 64}, "burn_in 64 leaves nothing of 64 steps"),
        ({"chunk_size": 2}, "leave chunk_size at 1"),
        ({"anchor": 0.5}, "has no anchor"),
        ({"balance": FixedBalance(2.0)}, "imitation, which is off: set imitation=filtered"),
        ({"sequence_length": 1}, "greater than or equal to 2"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecurrentSACConfig(**settings)
    assert RecurrentSACConfig(balance=FixedBalance(2.0), imitation="all").burn_in == 16
