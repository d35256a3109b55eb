"""PPO against its losses written again in numpy, in double precision."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import IQL, PPO, IQLConfig, PPOConfig
from balrl.errors import UserError
from balrl.on_policy import RolloutBuffer
from balrl.policies import GaussianPolicy
from tests.agents.reference import mlp, state_value, value_of
from tests.conftest import random_batch

OBSERVATIONS, ACTIONS = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(**settings: Any) -> PPO:
    agent = PPO(OBSERVATIONS, ACTIONS, PPOConfig(hidden=(8, 8), policy_head_scale=1.0, **settings)).double()
    agent.set_phase("online")
    return agent


def log_prob(policy: Any, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    mean = np.tanh(mlp(policy.trunk, observations) @ value_of(policy.mean.weight) + value_of(policy.mean.bias))
    log_std = value_of(policy.log_std)
    z = (actions - mean) / np.exp(log_std)
    return (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)


def test_the_clipped_loss_is_exact() -> None:
    agent, batch = make(clip=0.1, entropy_coefficient=0.3), random_batch(12, dtype=torch.float64)
    batch = batch._replace(log_probs=agent.policy.log_prob(batch.observations, batch.actions) + 0.2 * batch.rewards)
    loss, metrics = agent.policy_loss(batch.observations, batch)
    observations, actions, old, advantages = (
        value_of(x) for x in (batch.observations, batch.actions, batch.log_probs, batch.advantages)
    )
    advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    ratio = np.exp(log_prob(agent.policy, observations, actions) - old)
    surrogate = np.minimum(ratio * advantages, np.clip(ratio, 0.9, 1.1) * advantages).mean()
    entropy = (value_of(agent.policy.log_std) + 0.5 * np.log(2 * np.pi * np.e)).sum()
    np.testing.assert_allclose(float(loss.detach()), -surrogate - 0.3 * entropy, rtol=1e-12)
    np.testing.assert_allclose(float(metrics["policy/clipped"]), (abs(ratio - 1) > 0.1).mean())
    np.testing.assert_allclose(float(metrics["policy/kl_to_old"]), (ratio - 1 - np.log(ratio)).mean(), rtol=1e-9)
    assert 0 < float(metrics["policy/clipped"]) < 1


def test_the_value_loss_is_exact() -> None:
    agent, batch = make(), random_batch(12, dtype=torch.float64)
    error = state_value(agent.value, value_of(batch.observations)) - value_of(batch.value_targets)
    np.testing.assert_allclose(
        float(agent.value_loss(batch.observations, batch).detach()), (error**2).mean(), rtol=1e-12
    )


def test_nothing_pushes_the_policy_where_the_ratio_is_clipped() -> None:
    agent, batch = make(normalize_advantages=False), random_batch(6, dtype=torch.float64)
    old = agent.policy.log_prob(batch.observations, batch.actions).detach() - 1.0  # ratios of e
    up = batch._replace(log_probs=old, advantages=torch.ones(6, dtype=torch.float64))
    loss, _ = agent.policy_loss(up.observations, up)
    assert all(not g.any() for g in torch.autograd.grad(loss, list(agent.policy.parameters())))
    down = up._replace(advantages=-up.advantages)
    loss, _ = agent.policy_loss(down.observations, down)
    assert any(g.any() for g in torch.autograd.grad(loss, list(agent.policy.parameters())))


def filled(agent: PPO, steps: int = 5, worlds: int = 3, batch_size: int = 5) -> RolloutBuffer:
    rollouts = RolloutBuffer(steps, worlds, 3, 2, 2, batch_size)
    for name in ("rewards", "observations", "next_observations", "actions", "log_probs", "advantages", "value_targets"):
        setattr(rollouts, name, getattr(rollouts, name).double())
    for t in range(steps):
        batch = random_batch(worlds, dtype=torch.float64)
        batch = batch._replace(actions=agent.explore(batch.observations))
        rollouts.add(batch, batch.terminated | torch.tensor([False, t == 2, False]))
    return rollouts


def test_rewards_are_penalised_for_leaving_the_reference_before_advantages_are_taken() -> None:
    agent = make(kl_coefficient=0.5, discount=0.9, gae_lambda=0.8)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    rollouts = filled(agent)
    metrics = agent.compute_advantages(rollouts)
    observations, actions, following = (
        value_of(x) for x in (rollouts.observations, rollouts.actions, rollouts.next_observations)
    )
    now = log_prob(agent.policy, observations, actions)
    ratio = now - log_prob(agent.reference_policy, observations, actions)
    rewards = value_of(rollouts.rewards) - 0.5 * ratio
    values, next_values = state_value(agent.value, observations), state_value(agent.value, following)
    wanted = np.zeros((6, 3))
    for t in range(4, -1, -1):
        error = rewards[t] + 0.9 * next_values[t] * ~rollouts.terminated[t].numpy() - values[t]
        wanted[t] = error + 0.9 * 0.8 * wanted[t + 1] * ~rollouts.done[t].numpy()
    np.testing.assert_allclose(rollouts.advantages.numpy(), wanted[:5], rtol=1e-9)
    np.testing.assert_allclose(rollouts.value_targets.numpy(), wanted[:5] + values, rtol=1e-9)
    np.testing.assert_allclose(rollouts.log_probs.numpy(), now, rtol=1e-9)
    np.testing.assert_allclose(float(metrics["reference/kl"]), ratio.mean(), rtol=1e-9)


@pytest.mark.parametrize(("target", "factor"), [(1e6, 1 - 0.1 * 0.2), (1e-9, 1 + 0.1 * 0.2), (None, 1.0)])
def test_the_penalty_follows_its_target_by_at_most_two_percent_a_rollout(target: float | None, factor: float) -> None:
    agent = make(kl_coefficient=0.5, kl_target=target)
    with torch.no_grad():
        agent.policy.log_std.sub_(1.0)  # far from the reference
    agent.compute_advantages(filled(agent))
    assert float(agent.kl_coefficient) == pytest.approx(0.5 * factor)


def test_the_policy_at_the_switch_is_the_reference_and_stays_it() -> None:
    agent = PPO(OBSERVATIONS, ACTIONS, PPOConfig(hidden=(8, 8)))
    agent.update(random_batch(16))  # imitation
    batch = random_batch(16)
    assert not torch.equal(agent.reference_log_prob(batch), agent.policy.log_prob(batch.observations, batch.actions))
    agent.set_phase("online")
    before = agent.reference_log_prob(batch)
    torch.testing.assert_close(before, agent.policy.log_prob(batch.observations, batch.actions))
    agent.update(batch)
    assert torch.equal(agent.reference_log_prob(batch), before)


def test_offline_it_imitates() -> None:
    agent, batch = PPO(OBSERVATIONS, ACTIONS, PPOConfig(hidden=(8, 8))), random_batch(16)
    wanted = -agent.policy.log_prob(batch.observations, batch.actions).mean()
    torch.testing.assert_close(agent.update(batch)["policy/loss"], wanted.detach())


def test_exploration_is_not_clipped_and_acting_is() -> None:
    agent = make()
    observations = torch.randn(500, 3, dtype=torch.float64)
    assert agent.explore(observations).abs().max() > 1
    assert agent.act(observations).abs().max() <= 1
    assert isinstance(agent.policy, GaussianPolicy)


def test_running_statistics_take_part_from_the_next_rollouts_on() -> None:
    agent = make(normalize_observations=True)
    rollouts = filled(agent)
    agent.compute_advantages(rollouts)
    seen = rollouts.observations.flatten(0, 1)
    torch.testing.assert_close(agent.normalizer.mean, seen.mean(0))
    torch.testing.assert_close(agent.normalizer.std, seen.std(0, correction=0))
    assert torch.equal(agent.reference_normalizer.mean, torch.zeros(3, dtype=torch.float64))


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match="kl_coefficient above 0"):
        PPOConfig(kl_target=0.1)
    with pytest.raises(UserError, match=r"rollout has 5 steps of 3 environments, 15 transitions"):
        filled(make(), batch_size=16)
    replaying, rollouts = IQL(OBSERVATIONS, ACTIONS, IQLConfig(hidden=(8,))), filled(make())
    with pytest.raises(NotImplementedError, match="from a replay"):
        replaying.compute_advantages(rollouts)
