"""Who trades best, how a belief is updated, and the rule by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from balrl.envs.trading import BEST_RETURN, TradingVectorEnv
from balrl.envs.trading_players import Best, DualThrust, Player, _between, _updated, play, rule_dataset


def mean_return(player: Player, worlds: int = 2_000, **settings: float) -> float:
    return play(player, TradingVectorEnv(worlds, **settings), 3)["rewards"].sum(1).mean().item()


def test_a_belief_is_bayes_s() -> None:
    """The new price against both regimes' normal densities, and then the regime may change."""
    up, down = (math.exp(-0.5 * (4.0 - (3.0 + 0.1 * (level - 3.0))) ** 2) for level in (10.0, -10.0))
    after = 0.3 * up / (0.3 * up + 0.7 * down)
    found = _updated(torch.tensor([0.3]), torch.tensor([3.0]), torch.tensor([4.0])).item()
    assert found == pytest.approx(0.98 * after + 0.02 * (1 - after), rel=1e-5)


def test_interpolation_is_linear_and_ends_with_the_grid() -> None:
    x, y = torch.linspace(0, 4, 5), torch.linspace(-1, 1, 3)
    values = (2 * x[:, None] - 3 * y).unsqueeze(-1)
    found = _between(values, x, y, torch.tensor([0.5, 4.0, 9.0]), torch.tensor([0.25, 1.0, -7.0]))
    torch.testing.assert_close(found[:, 0], torch.tensor([1 - 0.75, 8 - 3.0, 8 + 3.0]))


def test_who_knows_more_earns_more() -> None:
    """The numbers that the task's documentation gives."""
    best, seeing, rule = mean_return(Best()), mean_return(Best(sees_regime=True)), mean_return(DualThrust())
    assert best == pytest.approx(BEST_RETURN, abs=2)
    assert seeing == pytest.approx(99.0, abs=2)
    assert rule == pytest.approx(20.4, abs=2)


@pytest.mark.slow
def test_no_other_band_of_beliefs_earns_more_than_the_best() -> None:
    """Long above a belief, short below another, from Bayes' belief and the price's pull."""

    class Banded(Best):
        def __init__(self, band: float) -> None:
            self.sees_regime, self.band = False, band

        def act(self, states: torch.Tensor) -> torch.Tensor:
            price, _, position = states[:, :3].unbind(-1)
            if (price != self._price).any():
                self.belief = _updated(self.belief, self._price, price)
            self._price = price
            drift = 0.1 * (10 * (2 * self.belief - 1) - price)
            return torch.where(drift > self.band, 1.0, torch.where(drift < -self.band, -1.0, position)).unsqueeze(-1)

    best = mean_return(Best(), 5_000)
    others = [mean_return(Banded(band), 5_000) for band in (0.0, 0.1, 0.2, 0.3, 0.5)]
    assert max(others) < best
    assert max(others) > 0.9 * best


def test_a_higher_cost_is_traded_less() -> None:
    moves = [
        play(Best(cost=cost), TradingVectorEnv(200, cost=cost), 0)["actions"].diff(dim=1).abs().sum().item()
        for cost in (0.0, 0.1, 1.0)
    ]
    assert moves[0] > moves[1] > moves[2]


def test_the_rule_by_hand() -> None:
    """The first day spans 0 to 4 and closes at 2: range 2. The next opens at 3: long above 4, short below 2."""
    rule = DualThrust(day=4)
    rule.begin(1)
    positions, position = [], 0.0
    for price in (0.0, 4.0, 1.0, 2.0, 3.0, 3.9, 4.1, 1.9, 1.4, 1.0):
        state = torch.tensor([[price, 1.0, position, 0.0]])
        position = rule.act(state).item()
        positions.append(position)
    assert positions == [0, 0, 0, 0, 0, 0, 1, -1, -1, -1]  # the third day's range is 4.1 − 1.9, its open 1.4


def test_its_data_are_whole_episodes_of_the_task() -> None:
    data = rule_dataset(episodes=3, seed=1)
    assert len(data) == 750
    assert np.flatnonzero(data.truncated).tolist() == [249, 499, 749]
    assert set(np.unique(data.actions)) <= {-1, 0, 1}
    assert data.env_id == "balrl/Trading-v0"
    np.testing.assert_array_equal(data.observations[1:250], data.next_observations[:249])
    np.testing.assert_array_equal(data.next_observations[:, -1], data.actions[:, 0])
