from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.envs.robotics import observation_adapter, with_position
from balrl.run.presets import load_config, preset_names
from balrl.run.registry import make_agent, make_env
from balrl.spaces import SpaceAdapter
from tests.conftest import random_batch

ONLINE = sorted(name for name in preset_names() if name.endswith(("/antmaze", "/kitchen")))


def test_an_ant_sees_where_it_is() -> None:
    pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")
    env = make_env("AntMaze_UMaze-v5", 2, kwargs={"include_cfrc_ext_in_observation": False})
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    assert (spaces.observation_dim, spaces.action_dim) == (2 + 27 + 2, 8)
    observations, _ = env.reset(seed=3)
    flat = spaces.flatten(observations)
    assert np.array_equal(flat[:, :2], observations["achieved_goal"])
    assert np.array_equal(flat[:, -2:], observations["desired_goal"])
    stepped = env.step(env.action_space.sample())[0]
    assert stepped["observation"].shape == (2, 29)
    env.close()


def test_other_tasks_are_left_alone() -> None:
    assert observation_adapter("Hopper-v5") is None
    assert observation_adapter("PointMaze_UMaze-v3") is None
    assert observation_adapter("AntMaze_UMaze-v5") is with_position


@pytest.mark.parametrize("name", ONLINE)
def test_presets_that_were_never_trained_can_be_built(name: str) -> None:
    """Every network, loss and optimiser of the AntMaze and kitchen presets takes one update on random data."""
    config = load_config(name, settings={"dataset": "some-file.hdf5", "batch_size": "8"})
    config.check_phases()
    spaces = gym.spaces.Box(-np.inf, np.inf, (31,)), gym.spaces.Box(-1, 1, (8,))
    agent = make_agent(config.agent, *spaces)
    for phase in ("offline", "online"):
        agent.set_phase(phase, 10)
        metrics = agent.update(random_batch(8, 31, 8))
        assert all(bool(torch.isfinite(value)) for value in metrics.values())
