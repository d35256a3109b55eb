from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import BC, BCConfig
from tests.agents import reference
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def test_likelihood() -> None:
    agent = BC(*SPACES, BCConfig(hidden=(5,))).double()
    b = random_batch(6, dtype=torch.float64)
    expected = -reference.gaussian_log_prob(agent.policy, b.observations.numpy(), b.actions.numpy()).mean()
    assert agent.policy_loss(b.observations, b.actions).item() == pytest.approx(expected, rel=1e-12)


def test_deterministic_is_mean_squared_error_over_action_dimensions() -> None:
    agent = BC(*SPACES, BCConfig(hidden=(5,), policy="deterministic")).double()
    b = random_batch(6, dtype=torch.float64)
    features = reference.mlp(agent.policy.trunk, b.observations.numpy())
    mean = np.tanh(features @ agent.policy.mean.weight.detach().numpy())
    expected = np.mean([np.mean((m - a) ** 2) for m, a in zip(mean, b.actions.numpy(), strict=True)])
    assert agent.policy_loss(b.observations, b.actions).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("policy", ["gaussian", "tanh-gaussian", "deterministic"])
def test_imitates(policy: str) -> None:
    agent = BC(*SPACES, BCConfig(hidden=(64,), policy=policy, learning_rate=1e-2))
    batch = random_batch(256)
    batch = batch._replace(actions=0.8 * torch.tanh(batch.observations[:, :2]))
    for _ in range(400):
        agent.update(batch)
    error = (agent.act(batch.observations, deterministic=True) - batch.actions).square().mean()
    assert error < 0.01
