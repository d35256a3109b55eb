"""TD3+BC for several rewards: its losses by hand."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import MOTD3BC, MOTD3BCConfig
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> MOTD3BC:
    agent = MOTD3BC(OBSERVATIONS, ACTIONS, MOTD3BCConfig(hidden=(5, 4), **config)).double()
    for p in (*agent.target_critic.parameters(), *agent.target_policy.parameters()):
        p.data += 0.1 * torch.randn_like(p)
    return agent


def test_critic_loss() -> None:
    agent = make(objectives=3, discount=0.9)
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=3))
    a = copy.deepcopy(agent)._next_actions(b.next_observations).detach().numpy()
    following = reference.q_values(agent.target_critic, b.next_observations.numpy(), a)
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for i in range(6):
        w = b.observations[i, 3:].numpy()
        chosen = min(range(2), key=lambda j: float(w @ following[j, i]))
        target = b.rewards[i].numpy() + (0.0 if b.terminated[i] else 0.9) * following[chosen, i]
        expected += sum(((target - q[j, i]) ** 2).mean() for j in range(2)) / 6
    loss, found = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(found, q, rtol=1e-9)


def test_policy_loss_climbs_the_first_critic_s_utility_near_the_data() -> None:
    agent = make()
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=2))
    chosen = agent.policy(b.observations)
    q = reference.q_values(agent.critic, b.observations.numpy(), chosen.detach().numpy())[0]
    utility = (q * b.observations[:, 3:].numpy()).sum(-1)
    distance = ((chosen.detach() - b.actions) ** 2).numpy().mean(-1)
    expected = (distance - 2.5 * utility / np.abs(utility).mean()).mean()
    loss, _ = agent.policy_loss(b.observations, b.actions, torch.full((6,), 2.5, dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
