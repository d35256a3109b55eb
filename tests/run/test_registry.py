"""Environments, data and agents by their names."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import balrl.envs  # noqa: F401  # registers its tasks
from balrl.agents import SACConfig
from balrl.envs import PointMazeVectorEnv
from balrl.errors import UserError
from balrl.run.registry import (
    BUILT_IN_DATASETS,
    inspection_context,
    load_dataset,
    make_agent,
    make_env,
    reference_of,
    step_limit,
)


def test_own_tasks_are_built_on_the_device_others_by_gymnasium() -> None:
    own, other = make_env("balrl/PointMaze-v0", 3), make_env("Pendulum-v1", 2)
    assert isinstance(own.unwrapped, PointMazeVectorEnv)
    assert own.metadata["tensors"]
    assert not other.metadata.get("tensors", False)
    assert (own.num_envs, other.num_envs) == (3, 2)
    assert (step_limit(own), step_limit(other)) == (own.unwrapped.max_episode_steps, 200)
    assert step_limit(make_env("balrl/PointMaze-v0", 1, kwargs={"max_episode_steps": 7})) == 7


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Hoper-v5", {}, "did you mean 'Hopper-v5'"),
        ("AdroitHandDor-v1", {}, r"pip install 'balrl\[robotics\]'"),
        ("Pendulum-v1", {"gravity": "heavy"}, "cannot be made with {'gravity': 'heavy'}"),
        ("balrl/PointMaze-v0", {"layout": "round"}, "cannot be made with {'layout': 'round'}"),
    ],
)
def test_tasks_that_cannot_be_made(name: str, kwargs: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_env(name, 1, kwargs=kwargs)


@pytest.mark.parametrize("name", BUILT_IN_DATASETS)
def test_built_in_data_fits_its_task(name: str) -> None:
    dataset = load_dataset(name)
    task = {"point-maze-energy": "PointMazeEnergy-v0", "trading-dual-thrust": "Trading-v0"}.get(name, "PointMaze-v0")
    assert dataset.env_id == f"balrl/{task}"
    assert np.abs(dataset.actions).max() <= 1
    assert dataset.ends[-1]


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'point-maze-mixed'"):
        load_dataset("point-maze-mixd")
    with pytest.raises(UserError, match="no dataset file"):
        load_dataset(tmp_path / "a.hdf5")


def test_what_a_task_says_of_data_for_it() -> None:
    context = inspection_context("Pendulum-v1")
    np.testing.assert_array_equal(context.action_high, [2.0])
    assert (context.observation_dim, context.action_dim, context.max_episode_steps) == (3, 1, 200)
    assert inspection_context(None).observation_dim is None


def test_agents_by_their_configuration() -> None:
    spaces = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))
    agent = make_agent(SACConfig(hidden=(4,), critics=3), *spaces)
    assert agent.critic is not None
    assert agent.critic.members == 3


def test_scores_are_relative_to_the_task_s_own_reference_or_d4rl_s() -> None:
    maze = make_env("balrl/PointMaze-v0", 1)
    own, hopper = reference_of("balrl/PointMaze-v0", maze), reference_of("Hopper-v5", make_env("Hopper-v5", 1))
    assert own is not None
    assert own.normalize(own.maximum) == 100
    assert hopper is not None
    assert hopper.source == "hopper-medium-v2"
    assert reference_of("Pendulum-v1", make_env("Pendulum-v1", 1)) is None
