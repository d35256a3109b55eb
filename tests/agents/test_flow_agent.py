from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import FQL, QC, FQLConfig, QCConfig
from balrl.agents.flow_agent import FlowAgent
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))
TINY = {"hidden": (5, 4), "flow_steps": 3, "chunk_size": 2, "polyak": 0.1}


@pytest.mark.parametrize(
    "agent",
    [FQL(OBSERVATIONS, ACTIONS, FQLConfig(**TINY)), QC(OBSERVATIONS, ACTIONS, QCConfig(**TINY, samples=4))],
    ids=["fql", "qc"],
)
def test_critics_learn_the_same_alone_as_within_an_update(agent: FlowAgent) -> None:
    """They see what acts as it was before an update, whose other losses change nothing for them."""
    whole, alone, b = agent.double(), copy.deepcopy(agent), random_batch(6, dtype=torch.float64, chunk_size=2)
    before = copy.deepcopy(alone.policy.state_dict())
    for one in (whole, alone):
        one.stream.reseed(5)
    metrics, of_critics = whole.update(b), alone.update_critic(b)
    for name in ("critic", "target_critic"):
        torch.testing.assert_close(getattr(whole, name).state_dict(), getattr(alone, name).state_dict())
    torch.testing.assert_close(alone.policy.state_dict(), before, rtol=0, atol=0)
    assert not torch.equal(next(whole.policy.parameters()), next(alone.policy.parameters()))
    assert all(torch.equal(metrics[key], of_critics[key]) for key in ("critic/loss", "critic/q"))
