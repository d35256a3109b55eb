"""RvS: its loss by hand, and what is left of the target."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import RvS, RvSConfig
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> RvS:
    return RvS(OBSERVATIONS, ACTIONS, RvSConfig(**{"hidden": (6,), "dropout": 0.0, "horizon": 10, **config})).double()


@pytest.mark.parametrize("m", [1, 2])
def test_the_loss_is_imitation_given_the_average_return_that_is_left(m: int) -> None:
    agent, b = make(objectives=m), random_batch(6, dtype=torch.float64, reward_dim=m)
    steps = torch.tensor([0.0, 3.0, 9.0, 5.0, 12.0, 1.0], dtype=torch.float64)
    b = b._replace(timesteps=steps)
    left = np.maximum(10 - steps.numpy(), 1)[:, None]
    average = b.returns_to_go.numpy().reshape(6, m) / left
    several = [b.preferences.numpy()] if m > 1 else []
    inputs = np.concatenate([b.observations.numpy(), *several, 1e-3 * 10 * average], 1)
    features = reference.mlp(agent.policy.trunk, inputs)
    mean = features @ reference.value_of(agent.policy.mean.weight) + reference.value_of(agent.policy.mean.bias)
    expected = ((np.tanh(mean) - b.actions.numpy()) ** 2).mean()
    assert agent.policy_loss(b).item() == pytest.approx(expected, rel=1e-9)


def test_rewards_are_taken_off_and_ended_episodes_begin_anew() -> None:
    agent = make(target_return=(50.0,), hold_target=False)
    o = torch.ones(2, 3, dtype=torch.float64)
    first, memory = agent.act_from(o, agent.empty_memory(2))
    memory = agent.after_step(memory, torch.tensor([5.0, 50.0]).double(), torch.zeros(2, dtype=torch.bool))
    assert memory[0].tolist() == [[45.0], [0.0]]
    second, memory = agent.act_from(o, memory)
    expected = agent.policy(torch.cat([o, 1e-2 * torch.tensor([[5.0], [0.0]]).double()], -1))  # of 9 steps left
    torch.testing.assert_close(second, expected)
    memory = agent.after_step(memory, torch.zeros(2).double(), torch.tensor([True, False]))
    third, _ = agent.act_from(o, memory)
    torch.testing.assert_close(third[0], first[0])


def test_as_released_the_same_is_asked_for_at_every_step() -> None:
    """G_0 / H, whatever was paid: falling behind asks for nothing that is not in the data."""
    agent = make(target_return=(50.0,))
    o, memory = torch.ones(1, 3, dtype=torch.float64), agent.empty_memory(1)
    expected = agent.policy(torch.cat([o, torch.tensor([[1e-3 * 50]]).double()], -1))
    for _ in range(12):
        chosen, memory = agent.act_from(o, memory)
        torch.testing.assert_close(chosen, expected)
        memory = agent.after_step(memory, torch.tensor([-100.0]).double(), torch.zeros(1, dtype=torch.bool))
