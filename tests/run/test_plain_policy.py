"""Policies that need no balrl."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import IQL, SAC, TD3BC, Agent, IQLConfig, SACConfig, StateAdaptiveBalance, TD3BCConfig
from balrl.errors import UserError
from balrl.run.plain_policy import write_plain_policy
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float32)
FAMILY = StateAdaptiveBalance(1.0, 5.0, hidden=(8,))
AGENTS = {
    "iql": lambda: IQL(*SPACES, IQLConfig(hidden=(8,))),
    "sac": lambda: SAC(*SPACES, SACConfig(hidden=(8,))),
    "td3bc": lambda: TD3BC(*SPACES, TD3BCConfig(hidden=(8,))),
    "family": lambda: IQL(*SPACES, IQLConfig(hidden=(8,), balance=FAMILY)),
}


def make(name: str) -> Agent:
    agent: Agent = AGENTS[name]()
    agent.normalizer.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 0.5]))
    return agent


@pytest.mark.parametrize("name", AGENTS)
def test_torchscript_acts_as_the_agent_serves(name: str, tmp_path: Path) -> None:
    agent = make(name)
    agent.crown(agent.freeze())
    agent.update(random_batch(16))
    loaded = torch.jit.load(str(write_plain_policy(agent, tmp_path / "policy.pt")))
    observations = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_allclose(loaded(torch.from_numpy(observations)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_one_member_of_a_family(tmp_path: Path) -> None:
    agent = make("family")
    loaded = torch.jit.load(str(write_plain_policy(agent, tmp_path / "policy.pt", balance=5.0)))
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected, _ = agent.predict(observations, deterministic=True, balance=5.0)
    np.testing.assert_allclose(loaded(torch.from_numpy(observations)).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "file", "balance", "message"),
    [
        ("iql", "policy.pt", 3.0, "has one policy, not a family"),
        ("family", "policy.pt", 9.0, "out of this family's range, 1 to 5"),
        ("iql", "policy.h5", None, r"\.pt"),
    ],
)
def test_what_cannot_be_is_one_line(name: str, file: str, balance: float | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_plain_policy(make(name), tmp_path / file, balance)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("onnx") is not None, reason="onnx is installed")
def test_onnx_without_its_package_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pip install onnx"):
        write_plain_policy(make("iql"), tmp_path / "policy.onnx")
