"""Implicit Q-learning for several rewards: its losses by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import MOIQL, MOIQLConfig
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> MOIQL:
    agent = MOIQL(OBSERVATIONS, ACTIONS, MOIQLConfig(hidden=(5, 4), **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def test_value_loss_weighs_vectors_by_their_utility() -> None:
    agent = make(expectile=0.8, objectives=2)
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=2))
    w = b.observations[:, 3:].numpy()
    target_q = reference.q_values(agent.target_critic, b.observations.numpy(), b.actions.numpy())
    v = reference.state_value(agent.value, b.observations.numpy())
    expected, chosen = 0.0, []
    for i in range(6):
        j = min(range(2), key=lambda j: float(w[i] @ target_q[j, i]))
        chosen.append(target_q[j, i])
        u = float(w[i] @ (target_q[j, i] - v[i]))
        expected += abs(0.8 - (1.0 if u < 0 else 0.0)) * ((target_q[j, i] - v[i]) ** 2).mean() / 6
    loss, utilities = agent.vector_value_loss(b.observations, torch.from_numpy(np.stack(chosen)))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(utilities, (w * v).sum(-1), rtol=1e-9)
    before = agent.critic.utility(torch.from_numpy(np.stack(chosen)), b.observations[:, 3:])
    found, _ = agent._step_value(b.observations, b.actions)
    torch.testing.assert_close(found, before)


def test_critic_loss_bootstraps_only_where_not_terminated() -> None:
    agent = make(discount=0.9, objectives=3)
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=3))
    v_next = reference.state_value(agent.value, b.next_observations.numpy())
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for member in range(2):
        for i in range(6):
            target = b.rewards[i].numpy() + (0.0 if b.terminated[i] else 0.9 * v_next[i])
            expected += ((target - q[member, i]) ** 2).mean() / 6
    assert agent.critic_loss(b)[0].item() == pytest.approx(expected, rel=1e-9)


def test_the_policy_is_weighted_by_the_advantage_in_utility() -> None:
    agent = make()
    b = agent.preferring(random_batch(6, dtype=torch.float64, reward_dim=2))
    w = b.observations[:, 3:].numpy()
    target_q = reference.q_values(agent.target_critic, b.observations.numpy(), b.actions.numpy())
    v = reference.state_value(agent.value, b.observations.numpy())
    advantages = (target_q * w).sum(-1).min(0) - (v * w).sum(-1)
    log_prob = agent.policy.log_prob(b.observations, b.actions).detach().numpy()
    expected = -(np.exp(3.0 * advantages).clip(max=100) * log_prob).mean()
    with torch.no_grad():
        target = agent.target_critic(b.observations, b.actions).amin(-2)
        found = target - agent.value(b.observations)
    loss = agent.policy_loss(b.observations, b.actions, found, torch.full((6,), 3.0, dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_with_one_preference_wTv_is_the_expectile_of_wTq() -> None:
    """Constant V over samples of a vector: its utility is the τ-expectile of the utilities, found by bisection."""
    torch.manual_seed(0)
    samples, w, tau = torch.randn(400, 2, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64), 0.8
    v = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for _ in range(4000):
        weight = (tau - ((samples - v) @ w < 0).double()).abs().detach()
        loss = (weight * (samples - v).square().mean(-1)).mean()
        (gradient,) = torch.autograd.grad(loss, v)
        v.data -= 0.1 * gradient
    u, low, high = (samples @ w).numpy(), -3.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        balance = (np.where(u < middle, 1 - tau, tau) * (u - middle)).sum()
        low, high = (middle, high) if balance > 0 else (low, middle)
    assert float(v.detach() @ w) == pytest.approx(low, abs=1e-4)
