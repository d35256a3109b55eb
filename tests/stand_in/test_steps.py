"""Captured steps are the written ones."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import balrl.envs  # noqa: F401  # registers its tasks
from balrl.agents import PPO, SAC, PPOConfig, SACConfig
from balrl.execution.steps import GraphCollector
from balrl.rollout import Collector
from tests.stand_in.device import OPERATIONS, WAITS, simulate_on_the_host

TASKS = ("balrl/PointMaze-v0", "balrl/Pendulum-v1", "balrl/MountainCarContinuous-v0", "balrl/CartPoleSwingUp-v0")


def make(kind: type[Collector], task: str, agent_type: Any = SAC, **settings: Any) -> tuple[Any, Any]:
    env = gym.make_vec(task, num_envs=5, device="cuda:1", max_episode_steps=4)
    torch.manual_seed(0)
    config = (SACConfig if agent_type is SAC else PPOConfig)(hidden=(8, 8), **settings)
    agent = agent_type(env.single_observation_space, env.single_action_space, config, "cuda:1")
    agent.set_phase("online")
    agent.stream.reseed(3)
    return kind(env, "cuda:1", 7), agent


def tensors(step: Any) -> list[Tensor]:
    return [x for x in (*step.batch, *step[1:]) if x is not None]


@pytest.mark.parametrize(("agent_type", "settings"), [(SAC, {}), (PPO, {}), (SAC, {"chunk_size": 3})])
@pytest.mark.parametrize("task", TASKS)
def test_captured_steps_are_the_written_ones(task: str, agent_type: Any, settings: dict[str, int]) -> None:
    """Across ends of episodes, which draw; and what was returned before stays as it was."""
    (plain, one), (captured, other) = (make(kind, task, agent_type, **settings) for kind in (Collector, GraphCollector))
    captured.notice = pytest.fail
    kept: list[tuple[list[Tensor], list[Tensor]]] = []
    for _ in range(11):
        expected, found = tensors(plain.step(one.explore)), tensors(captured.step(other.explore))
        kept.append(([x.clone() for x in found], found))
        for x, y in zip(expected, found, strict=True):
            assert torch.equal(x, y)
    assert captured._graphs
    for before, now in kept:
        assert all(torch.equal(x, y) for x, y in zip(before, now, strict=True))
    for state, same in ((plain, captured), (plain.env, captured.env)):
        for key, value in state.state_dict().items():
            assert torch.equal(value, same.state_dict()[key]), key
    assert plain.pop_ended() == captured.pop_ended()


def test_a_step_is_one_graph_and_what_the_caller_gets() -> None:
    collector, agent = make(GraphCollector, TASKS[0])
    for _ in range(3):
        collector.step(agent.explore)
    OPERATIONS.clear()
    WAITS.clear()
    collector.step(agent.explore)
    assert sum(OPERATIONS.values()) <= 10  # copies
    assert not WAITS


def test_what_was_loaded_is_gone_on_with() -> None:
    (plain, one), (captured, other) = make(Collector, TASKS[0]), make(GraphCollector, TASKS[0])
    for _ in range(3):
        plain.step(one.explore)
        captured.step(other.explore)
    state = {k: v.clone() for k, v in captured.state_dict().items()}
    world = {k: v.clone() for k, v in captured.env.state_dict().items()}
    position = other.stream.position.clone()
    for _ in range(4):
        captured.step(other.explore)
    captured.load_state_dict(state)
    captured.env.load_state_dict(world)
    other.stream.position.copy_(position)
    for _ in range(6):
        for x, y in zip(tensors(plain.step(one.explore)), tensors(captured.step(other.explore)), strict=True):
            assert torch.equal(x, y)


def test_what_cannot_be_captured_runs_as_written_and_one_notice_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain, one), (captured, other) = make(Collector, TASKS[1]), make(GraphCollector, TASKS[1])
    heard: list[str] = []
    captured.notice = heard.append
    transition = type(captured.env).transition

    def asks(self: Any, states: Tensor, actions: Tensor) -> Any:
        float(states.sum())
        return transition(self, states, actions)

    monkeypatch.setattr(type(captured.env), "transition", asks)
    for _ in range(6):
        for x, y in zip(tensors(plain.step(one.explore)), tensors(captured.step(other.explore)), strict=True):
            assert torch.equal(x, y)
    assert len(heard) == 1
    assert "steps run as they are written, not as a CUDA graph" in heard[0]


def test_a_policy_without_a_stream_is_called() -> None:
    collector, agent = make(GraphCollector, TASKS[0])
    calls: list[int] = []

    def policy(observations: Tensor) -> Tensor:
        calls.append(1)
        return agent.act(observations)

    for _ in range(3):
        collector.step(policy)
    assert (len(calls), collector._graphs) == (3, {})


def test_a_simulator_with_graphs_of_its_own_is_left_alone() -> None:
    pytest.importorskip("mujoco_warp")
    simulate_on_the_host()
    collector, agent = make(GraphCollector, "balrl/InvertedPendulum-v5")
    collector.step(agent.explore)
    assert not collector._graphs
