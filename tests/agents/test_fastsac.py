"""Soft actor-critic with distributional critics."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from balrl.agents import FastSAC, FastSACConfig
from balrl.batch import Batch
from balrl.distributional import project
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def build(**settings: Any) -> FastSAC:
    torch.manual_seed(0)
    config = FastSACConfig(**{"hidden": (8, 8), "critic_hidden": (9,), "atoms": 7, "value_range": (-3, 3), **settings})
    agent = FastSAC(*SPACES, config).double()
    agent.set_phase("online")
    return agent


def doubles(rows: int) -> Batch:
    batch = random_batch(rows)
    return Batch(*(x.double() if x is not None and x.is_floating_point() else x for x in batch))


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_the_critics_loss_is_each_ones_cross_entropy_with_its_own_target(backup_entropy: bool) -> None:
    agent, batch = (
        build(backup_entropy=backup_entropy, normalize_observations=False, initial_temperature=0.3),
        doubles(6),
    )
    with torch.no_grad():
        for parameter in agent.target_critic.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = batch._replace(terminated=torch.tensor([False, True, False, False, True, False]))
    position = agent.stream.position.clone()
    loss, metrics = agent.critic_loss(batch)
    agent.stream.position.copy_(position)
    actions, log_prob = agent.policy.sample(batch.next_observations, agent.stream)
    expected = 0.0
    for member in range(2):
        for row in range(6):
            going_on = 0.97 * (not bool(batch.terminated[row]))
            reward = batch.rewards[row] - (going_on * agent.temperature * log_prob[row] if backup_entropy else 0)
            p = agent.target_critic.logits(batch.next_observations, actions)[member, row].softmax(-1)
            discount = torch.tensor([going_on], dtype=torch.float64)
            target = project(p.reshape(1, 1, -1), agent.critic.support, reward.reshape(1), discount)
            log_p = agent.critic.logits(batch.observations, batch.actions)[member, row].log_softmax(-1)
            expected -= float((target[0, 0] * log_p).sum().detach()) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert metrics["critic/q"].item() == pytest.approx(agent.critic(batch.observations, batch.actions).mean().item())


def test_the_policy_sees_the_mean_of_the_critics() -> None:
    agent, batch = build(normalize_observations=False), doubles(5)
    q = agent.critic(batch.observations, batch.actions)
    torch.testing.assert_close(agent._policy_q(batch.observations, batch.actions), q.mean(0))


def test_the_first_policy_is_the_same_everywhere_and_inside_the_bounds() -> None:
    agent = build()
    assert torch.equal(agent.act(torch.randn(4, 3).double(), deterministic=True), torch.zeros(4, 2).double())
    _, log_std = agent.policy(torch.randn(4, 3).double())
    assert torch.equal(log_std, torch.full_like(log_std, -2.5))
    fixed = build(state_dependent_std=False, log_std_range=(-4.0, 0.0))
    assert torch.equal(fixed.policy.log_std.detach(), torch.full((2,), -2.0).double())


def test_observations_are_standardised_with_what_the_updates_saw() -> None:
    agent, batches = build(), [doubles(50), doubles(30)]
    for batch in batches:
        agent.update_critic(batch)
    seen = torch.cat([batch.observations for batch in batches])
    torch.testing.assert_close(agent.normalizer.mean, seen.mean(0))
    torch.testing.assert_close(agent.normalizer.std, seen.std(0, correction=0), rtol=1e-6, atol=1e-6)
    untouched = build(normalize_observations=False)
    untouched.update_critic(batches[0])
    assert torch.equal(untouched.normalizer.mean, torch.zeros(3).double())


def test_mass_on_the_outermost_atoms_is_told() -> None:
    agent, batch = build(value_range=(-0.1, 0.1), normalize_observations=False), doubles(20)
    wide = build(value_range=(-100.0, 100.0), normalize_observations=False, atoms=101)
    assert agent.critic_loss(batch._replace(rewards=batch.rewards + 5))[1]["critic/border"] == 1.0
    assert wide.critic_loss(batch)[1]["critic/border"] < 0.1


def test_returns_of_a_chain_are_learned() -> None:
    """Two steps to the end, with a coin for the last reward: the mean is right, and both outcomes are predicted."""
    settings = {"critic_hidden": (32,), "critic_learning_rate": 3e-3, "discount": 0.9, "backup_entropy": False}
    agent = build(**settings, normalize_observations=False)
    torch.manual_seed(1)
    first, second = torch.tensor([1.0, 0, 0]).double(), torch.tensor([0, 1.0, 0]).double()
    for _ in range(600):
        coin = torch.randint(0, 2, (32,)).double()
        observations = torch.cat([first.expand(32, 3), second.expand(32, 3)])
        following = torch.cat([second.expand(32, 3), second.expand(32, 3)])
        rewards = torch.cat([torch.ones(32).double(), 4 * coin - 2])
        terminated = torch.tensor([False] * 32 + [True] * 32)
        actions = 2 * torch.rand(64, 2).double() - 1
        agent.update_critic(Batch(observations, actions, rewards, following, terminated))
    q = agent.critic(torch.stack([first, second]), torch.zeros(2, 2).double()).mean(0)
    assert q.tolist() == pytest.approx([1.0, 0.0], abs=0.25)
    last = agent.critic.logits(second.unsqueeze(0), torch.zeros(1, 2).double()).softmax(-1)[0, 0]
    assert last[[1, 5]].sum() > 0.9  # −2 and 2


def test_a_subset_of_targets_is_refused() -> None:
    with pytest.raises(ValidationError, match="a target of its own"):
        FastSACConfig(target_subset=1)
