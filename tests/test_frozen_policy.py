from __future__ import annotations

import gymnasium as gym
import pytest
import torch

import balrl
from balrl.agents import IQL, SAC, TD3BC, Agent, IQLConfig, SACConfig, StateAdaptiveBalance, TD3BCConfig
from balrl.frozen_policy import FrozenPolicy
from tests.conftest import random_batch

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))
FAMILY = StateAdaptiveBalance(1.0, 5.0, hidden=(8,))
AGENTS = {
    "iql": lambda: IQL(*BOX, IQLConfig(hidden=(8,), balance=FAMILY)),
    "averaged": lambda: IQL(*BOX, IQLConfig(hidden=(8,), policy_average=0.9)),
    "sac": lambda: SAC(*BOX, SACConfig(hidden=(8,))),
    "td3bc": lambda: TD3BC(*BOX, TD3BCConfig(hidden=(8,))),
}


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


def test_it_acts_as_the_agent_did_whatever_the_agent_learns(agent: Agent) -> None:
    observations = torch.randn(5, 3)
    before = agent.act(observations, deterministic=True)
    frozen = agent.freeze()
    for _ in range(4):
        agent.update(random_batch(16))
    assert torch.equal(frozen.act(observations), before)
    assert not torch.equal(agent.act(observations, deterministic=True), before)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert agent.optimizers["policy"].state  # the agent's own go on


def test_the_champion_is_what_is_served(agent: Agent) -> None:
    observations = torch.randn(5, 3)
    frozen = agent.freeze()
    for _ in range(4):
        agent.update(random_batch(16))
    assert torch.equal(agent.serve(observations), agent.act(observations, deterministic=True))
    agent.crown(frozen)
    assert torch.equal(agent.serve(observations), frozen.act(observations))
    single, _ = agent.predict(observations[0].numpy(), deterministic=True)
    torch.testing.assert_close(torch.from_numpy(single), frozen.act(observations[:1])[0])
    assert not any("champion" in name for name in agent.state_dict())


def test_a_saved_agent_keeps_its_champion(agent: Agent, tmp_path) -> None:  # type: ignore[no-untyped-def]
    observations = torch.randn(5, 3)
    agent.crown(agent.freeze())
    for _ in range(4):
        agent.update(random_batch(16))
    loaded = balrl.load_agent(agent.save(tmp_path / "agent"))
    assert torch.equal(loaded.serve(observations), agent.serve(observations))
    assert torch.equal(loaded.act(observations, deterministic=True), agent.act(observations, deterministic=True))
    agent.crown(None)
    assert balrl.load_agent(agent.save(tmp_path / "agent")).champion is None


def test_members_of_a_frozen_family() -> None:
    agent = AGENTS["iql"]()
    agent.crown(agent.freeze())
    observations = torch.randn(4, 3)
    expected = agent.act(observations, deterministic=True, balance=5.0)
    agent.update(random_batch(16))
    assert torch.equal(agent.serve(observations, balance=5.0), expected)
    assert isinstance(agent.champion, FrozenPolicy)
