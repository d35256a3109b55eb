from __future__ import annotations

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agents import SAC, FixedBalance, SACConfig, StateAdaptiveBalance
from tests.agents import reference
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> SAC:
    agent = SAC(*SPACES, SACConfig(hidden=(5, 4), initial_temperature=0.3, **config)).double()
    agent.log_temperature.data.fill_(math.log(0.3))
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def sampled(agent: SAC, observations: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the action that the agent will draw under this seed, and its log-probability, by hand."""
    torch.manual_seed(seed)
    noise = torch.randn(len(observations), 2, dtype=torch.float64).numpy()
    features = reference.mlp(agent.policy.trunk, observations.numpy())
    policy = agent.policy
    mean = features @ reference.value_of(policy.mean.weight) + reference.value_of(policy.mean.bias)
    log_std = features @ reference.value_of(policy.log_std.weight) + reference.value_of(policy.log_std.bias)
    log_std = np.clip(log_std, -20, 2)
    x = mean + np.exp(log_std) * noise
    log_prob = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
    return np.tanh(x), log_prob - np.log(1 - np.tanh(x) ** 2).sum(-1)


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_critic_loss(backup_entropy: bool) -> None:
    agent, b = make(critics=3, backup_entropy=backup_entropy), random_batch(6, dtype=torch.float64)
    actions, log_prob = sampled(agent, b.next_observations, seed=4)
    next_q = reference.q_values(agent.target_critic, b.next_observations.numpy(), actions).min(0)
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for i in range(6):
        soft = next_q[i] - (0.3 * log_prob[i] if backup_entropy else 0.0)
        target = b.rewards[i].item() + (0.0 if b.terminated[i] else 0.99 * soft)
        expected += sum((target - q[member, i]) ** 2 for member in range(3)) / 6
    torch.manual_seed(4)
    loss, _ = agent.critic_loss(b.observations, b.actions, b.rewards, b.next_observations, b.terminated)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_policy_loss_weighs_q_with_the_balance() -> None:
    agent, b = make(), random_batch(6, dtype=torch.float64)
    balance = np.linspace(0.5, 1.5, 6)
    actions, log_prob = sampled(agent, b.observations, seed=4)
    q = reference.q_values(agent.critic, b.observations.numpy(), actions).min(0)
    expected = np.mean(0.3 * log_prob - balance * q)
    torch.manual_seed(4)
    loss, returned = agent.policy_loss(b.observations, torch.from_numpy(balance))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(returned.numpy(), log_prob, rtol=1e-9)


def test_temperature_loss() -> None:
    agent = make(target_entropy=-1.7)
    log_prob = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    expected = -math.log(0.3) * (sum([0.5, -2.0, 1.0]) / 3 - 1.7)
    assert agent.temperature_loss(log_prob).item() == pytest.approx(expected, rel=1e-6)
    assert make().target_entropy == -2.0


def test_one_update_moves_the_critics_before_the_policy_and_the_targets_last() -> None:
    agent, b = make(polyak=0.1), random_batch(6, dtype=torch.float64)
    old = copy.deepcopy(agent)
    torch.manual_seed(9)
    agent.update(b)
    torch.manual_seed(9)
    critic_loss, _ = old.critic_loss(b.observations, b.actions, b.rewards, b.next_observations, b.terminated)
    expected = reference.first_adam_step(list(old.critic.parameters()), critic_loss, 3e-4)
    for new, wanted in zip(agent.critic.parameters(), expected, strict=True):
        torch.testing.assert_close(new, wanted, rtol=1e-9, atol=1e-12)
    old.critic.load_state_dict(agent.critic.state_dict())
    policy_loss, log_prob = old.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    expected = reference.first_adam_step(list(old.policy.parameters()), policy_loss, 3e-4)
    for new, wanted in zip(agent.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(new, wanted, rtol=1e-9, atol=1e-12)
    [temperature] = reference.first_adam_step([old.log_temperature], old.temperature_loss(log_prob), 3e-4)
    torch.testing.assert_close(agent.log_temperature, temperature, check_dtype=False)
    for new, before, source in zip(
        agent.target_critic.parameters(), old.target_critic.parameters(), agent.critic.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * before + 0.1 * source, rtol=1e-9, atol=1e-12)


def test_each_state_of_the_critic_loss_gets_its_own_balance() -> None:
    agent = make(balance=StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False))
    agent.set_phase("online")
    seen: list[Tensor] = []
    original = agent.balance.sample
    agent.balance.sample = lambda o, online: seen.append(o) or original(o, online)  # type: ignore[method-assign]
    b = random_batch(6, dtype=torch.float64)
    agent.update(b)
    assert torch.equal(seen[0], b.observations)
    assert torch.equal(seen[1], b.next_observations)


def test_learns_a_bandit() -> None:
    """One step, reward −(a − 0.5)²: the mode must find 0.5."""
    config = SACConfig(
        hidden=(32,),
        policy_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        temperature_learning_rate=1e-6,
        initial_temperature=0.01,
        balance=FixedBalance(1.0),
    )
    agent = SAC(*SPACES, config)
    for _ in range(1500):
        b = random_batch(128)
        b = b._replace(rewards=-(b.actions - 0.5).square().sum(-1), terminated=torch.ones(128, dtype=torch.bool))
        agent.update(b)
    action = agent.act(torch.randn(50, 3), deterministic=True).mean(0)
    torch.testing.assert_close(action, torch.tensor([0.5, 0.5]), rtol=0, atol=0.15)
