"""Soft actor-critic for several rewards: its losses by hand."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import MOSAC, SAC, MOSACConfig, SACConfig
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> MOSAC:
    agent = MOSAC(OBSERVATIONS, ACTIONS, MOSACConfig(hidden=(5, 4), **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_critic_loss(backup_entropy: bool) -> None:
    agent = make(critics=3, objectives=2, backup_entropy=backup_entropy, initial_temperature=0.3)
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=2))
    again = copy.deepcopy(agent)
    actions, log_prob = again._sample(again.normalizer(b.next_observations))
    a, log_prob = actions.detach().numpy(), log_prob.detach().numpy()
    following = reference.q_values(agent.target_critic, b.next_observations.numpy(), a)
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for i in range(6):
        w = b.observations[i, 3:].numpy()
        chosen = min(range(3), key=lambda j: float(w @ following[j, i]))
        value = following[chosen, i] - (0.3 * log_prob[i] if backup_entropy else 0.0)
        target = b.rewards[i].numpy() + (0.0 if b.terminated[i] else 0.99) * value
        expected += sum(((target - q[j, i]) ** 2).mean() for j in range(3)) / 6
    loss, metrics = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-7)
    assert metrics["critic/q"].item() == pytest.approx(q.mean(), rel=1e-9)


def test_policy_loss_climbs_the_least_utility() -> None:
    agent = make(critics=2, objectives=2, initial_temperature=0.3)
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=2))
    observations = agent.normalizer(b.observations)
    again = copy.deepcopy(agent)
    actions, log_prob = again._sample(observations)
    q = reference.q_values(agent.critic, observations.numpy(), actions.detach().numpy())
    w = b.observations[:, 3:].numpy()
    utility = (q * w).sum(-1).min(0)
    expected = (0.3 * log_prob.detach().numpy() - utility).mean()
    loss, _ = agent.policy_loss(observations, torch.ones(6, dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-7)


def test_under_one_corner_it_is_soft_actor_critic_on_that_reward() -> None:
    """A preference of (1, 0): target and policy loss are SAC's on the first reward."""
    torch.manual_seed(1)
    agent = make(critics=2)
    b = random_batch(8, dtype=torch.float64, reward_dim=2)
    w = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(8, 2)
    seen = b._replace(
        observations=torch.cat([b.observations, w], -1), next_observations=torch.cat([b.next_observations, w], -1)
    )
    wide = gym.spaces.Box(-np.inf, np.inf, (5,))
    scalar = SAC(wide, ACTIONS, SACConfig(hidden=(5, 4))).double()
    state = {key: value[..., 0] if "critic.head" in key else value for key, value in agent.state_dict().items()}
    normalizer = {key: value for key, value in scalar.state_dict().items() if key.startswith("normalizer")}
    scalar.load_state_dict({key: value for key, value in state.items() if key in scalar.state_dict()} | normalizer)
    of_first = scalar.next_value(seen, None)
    torch.testing.assert_close(agent.next_vectors(seen, None)[:, 0], of_first)
    agent.stream.load_state_dict(scalar.stream.state_dict())
    one = agent.policy_loss(seen.observations, torch.ones(8, dtype=torch.float64))[0]
    other = scalar.policy_loss(seen.observations, torch.ones(8, dtype=torch.float64))[0]
    torch.testing.assert_close(one, other)
