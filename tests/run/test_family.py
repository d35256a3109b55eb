from __future__ import annotations

import gymnasium as gym
import pytest
import torch

from balrl.agents import IQL, IQLConfig, StateAdaptiveBalance
from balrl.errors import UserError
from balrl.run.family import OWN, arms_of, balance_of, constant, estimates, play
from tests.conftest import random_batch

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(scale: str = "linear") -> IQL:
    return IQL(*BOX, IQLConfig(hidden=(8,), balance=StateAdaptiveBalance(1.0, 4.0, hidden=(8,), scale=scale)))


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_constants_are_spread_in_the_logarithm_with_both_ends(scale: str) -> None:
    balance = balance_of(make(scale))
    arms = arms_of(balance, "members", 3)
    assert arms[0] == OWN
    assert [arm.balance for arm in arms[1:]] == pytest.approx([1.0, 2.0, 4.0])
    u = torch.tensor([arm.shift for arm in arms[1:]], dtype=torch.float64)
    torch.testing.assert_close(balance.coefficients(u), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))


def test_offsets_reach_both_ends_from_anywhere() -> None:
    arms = arms_of(balance_of(make()), "offsets", 4)
    assert [arm.shift for arm in arms[1:]] == [-2.0, -1.0, 1.0, 2.0]
    assert all(arm.kept == 1.0 for arm in arms)
    assert [arm.label for arm in arms[1:]] == ["own -3", "own -1.5", "own +1.5", "own +3"]
    assert [arm.kept for arm in arms_of(balance_of(make()), "both", 4)] == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert arms_of(balance_of(make("log")), "offsets", 2)[1].label == "own × 0.25"


def test_every_row_is_played_by_its_own_member() -> None:
    agent, observations = make(), torch.randn(3, 3)
    found = play(agent, observations, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, -1.0, 1.0]))
    for row, balance in ((0, None), (1, 1.0), (2, 4.0)):
        expected = agent.act(observations[row : row + 1], deterministic=True, balance=balance)
        torch.testing.assert_close(found[row : row + 1], expected)


def test_offline_estimates_are_the_critics_means() -> None:
    agent, batch = make(), random_batch(20)
    arms = [OWN, constant(balance_of(agent), 4.0)]
    found = estimates(agent, arms, batch)
    q = agent.q_values(batch.observations, agent.act(batch.observations, deterministic=True, balance=4.0))
    assert q is not None
    assert found[1]["mean_q"] == pytest.approx(float(q.mean()), rel=1e-5)
    assert found[1]["conservative_q"] == pytest.approx(
        float((q.mean(0) - 0.5 * q.var(0, correction=0)).mean()), rel=1e-5
    )


def test_what_is_no_family_or_out_of_range_is_one_line() -> None:
    with pytest.raises(UserError, match="has one policy, not a family"):
        balance_of(IQL(*BOX, IQLConfig(hidden=(8,))))
    with pytest.raises(UserError, match="out of this family's range, 1 to 4"):
        constant(balance_of(make()), 5.0)
