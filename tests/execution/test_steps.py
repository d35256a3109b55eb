"""Steps as graphs; on a GPU, or on one that is none (tests/stand_in/test_steps.py), they are captured."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch

import balrl.envs  # noqa: F401  # registers its tasks
from balrl.agents import SAC, SACConfig
from balrl.execution.steps import GraphCollector
from balrl.rollout import Collector

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("task", ["balrl/PointMaze-v0", "balrl/Pendulum-v1"])
def test_steps_are_those_of_a_collector(task: str, chunk_size: int) -> None:
    """Chunks are played on inside the graph, and begun anew with an episode."""
    found = []
    for kind in (Collector, GraphCollector):
        env = gym.make_vec(task, num_envs=5, device=DEVICE, max_episode_steps=4)
        torch.manual_seed(0)
        config = SACConfig(hidden=(8, 8), chunk_size=chunk_size)
        agent = SAC(env.single_observation_space, env.single_action_space, config, DEVICE)
        collector = kind(env, DEVICE, 7)
        steps = [collector.step(agent.explore) for _ in range(11)]
        found.append([x for step in steps for x in (*step.batch, *step[1:]) if x is not None])
        if kind is GraphCollector:
            assert bool(collector._graphs) == (DEVICE == "cuda")
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_environments_in_numpy_are_stepped_as_ever() -> None:
    collector = GraphCollector(gym.make_vec("Pendulum-v1", num_envs=2), DEVICE, 0)
    spaces = collector.env.single_observation_space, collector.env.single_action_space
    collector.step(SAC(*spaces, SACConfig(hidden=(8,)), DEVICE).explore)
    assert not collector._graphs
