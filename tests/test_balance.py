"""What a balance does that only weighs an improvement."""

from __future__ import annotations

import pytest
import torch

from balrl.agents import FixedBalance, StateAdaptiveBalance
from balrl.agents.balance import make_balance


@pytest.mark.parametrize("config", [FixedBalance(2.0), StateAdaptiveBalance(1.0, 5.0, hidden=(4,))])
def test_it_leaves_the_constraint_alone(config: FixedBalance | StateAdaptiveBalance) -> None:
    balance = make_balance(config, 3)
    before = {name: value.clone() for name, value in balance.state_dict().items()}
    penalty, clock = torch.rand(2, 5), torch.tensor(1)
    assert balance.constraint(penalty, torch.rand(5, 3)) is penalty
    assert balance.adapt(torch.rand(5, 3), lambda _: pytest.fail("asked"), None, clock, 10) == {}
    balance.tick(True, clock, 10)
    assert all(torch.equal(value, before[name]) for name, value in balance.state_dict().items())
