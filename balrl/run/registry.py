"""Environments, data and agents by their names."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.agents.registration import agent_class
from balrl.config import AgentConfig, EnvironmentConfig
from balrl.data import HDF5, LEROBOT, MINARI, NPZ, OGBENCH
from balrl.errors import UserError, did_you_mean, first_line
from balrl.run.given import GivenTask, check_named
from balrl.run.imports import check_task_module, imported_modules

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agent import Agent
    from balrl.data.dataset import Dataset
    from balrl.data.inspect import TaskContext
    from balrl.evaluation import Reference

BUILT_IN_DATASETS = (
    "point-maze-mixed",
    "point-maze-large",
    "point-maze-halves",
    "point-maze-fork",
    "point-maze-fork-good",
    "point-maze-energy",
    "trading-dual-thrust",
)


def make_env(
    task: str | GivenTask,
    num_envs: int,
    device: torch.device | str = "cpu",
    kwargs: Mapping[str, Any] | None = None,
    config: EnvironmentConfig | None = None,
    reward_weights: Sequence[float] = (),
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build a vector environment by its Gymnasium id, ours on the device, others' on the CPU, or as it was handed over.

    Args:
        task: an id, or what was handed over.
        num_envs: worlds.
        device: of ours.
        kwargs: of the task.
        config: how far it is trusted.
        reward_weights: of several rewards, under which they become one.

    Raises:
        UserError: when there is no such task, or it cannot be made.
    """
    import gymnasium as gym

    from balrl.envs.gymnasium_env import make_gymnasium_env
    from balrl.envs.multi_objective import WeightedRewards, is_multi_objective, register_multi_objective
    from balrl.envs.robotics import register_robotics
    from balrl.spaces import reward_dim

    config = config or EnvironmentConfig()
    if reward_weights:
        made = make_env(task, num_envs, device, kwargs, config)
        return made if reward_dim(made) == 1 else WeightedRewards(made, reward_weights)
    if config.executor == "ray":
        return _make_remote(task, num_envs, kwargs, config)
    if not isinstance(task, str):
        return task.make(num_envs, config)
    check_named(task, "env")
    check_task_module(task)
    if task not in gym.registry:
        register_robotics()
        register_multi_objective(task)
    options = dict(kwargs or {})
    if config.max_episode_steps is not None:
        options.setdefault("max_episode_steps", config.max_episode_steps)
    try:
        if task.startswith("balrl/"):
            return gym.make_vec(task, num_envs=num_envs, device=device, **options)
        return make_gymnasium_env(task, num_envs, options, config.on_invalid == "end-episode")
    except gym.error.UnregisteredEnv as error:
        robotics = "Adroit" in task or "Maze" in task
        extra = "; its package comes with: pip install 'balrl[robotics]'" if robotics else ""
        if is_multi_objective(task):
            extra = "; its package comes with: pip install 'balrl[multi-objective]'"
        hint = did_you_mean(task, gym.registry)
        own = "" if hint or extra else "; one of your own needs --import MODULE, the module that registers it"
        raise UserError(f"no environment '{task}' is registered with Gymnasium{hint}{extra}{own}") from error
    except UserError:
        raise
    except Exception as error:  # whatever the task's own constructor objects to, it is what the user asked for
        reason = first_line(error)
        raise UserError(f"environment '{task}' cannot be made with {options}: {reason}") from error


def _make_remote(
    task: str | GivenTask, num_envs: int, kwargs: Mapping[str, Any] | None, config: EnvironmentConfig
) -> gym.vector.VectorEnv[Any, Any, Any]:
    from balrl.envs.remote import RemoteVectorEnv

    if not isinstance(task, str) and task.num_envs is not None:
        raise UserError(
            "environment.executor=ray puts worlds into actors: hand over a callable that makes one world instead of a "
            "vector"
        )
    here = config.model_copy(update={"executor": "local", "actors": 1, "actor_cpus": 1.0, "address": None, "stale": 0})
    make = partial(_make_there, task, kwargs=dict(kwargs or {}), config=here)
    return RemoteVectorEnv(
        make,
        num_envs,
        config.actors,
        address=config.address,
        cpus=config.actor_cpus,
        modules=imported_modules(),
    )


def _make_there(
    task: str | GivenTask, num_envs: int, kwargs: dict[str, Any], config: EnvironmentConfig
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build worlds in an actor; ours on its CPU."""
    return make_env(task, num_envs, "cpu", kwargs, config)


def make_drawn_env(
    env_id: str | GivenTask,
    device: torch.device | str = "cpu",
    kwargs: Mapping[str, Any] | None = None,
    reward_weights: Sequence[float] = (),
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build one world that can be drawn, without a display where there is none."""
    from balrl.envs.light_drawing import draw_lightly
    from balrl.video import LONGER_SIDE

    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo's own choice needs a display
    drawn = {} if not isinstance(env_id, str) or env_id.startswith("balrl/") else {"render_mode": "rgb_array"}
    env = make_env(env_id, 1, device, {**(kwargs or {}), **drawn}, reward_weights=reward_weights)
    draw_lightly(env, LONGER_SIDE)
    return env


def load_dataset(
    path_or_id: str | Path,
    max_episode_steps: int | None = None,
    mapped: bool = False,
    observation_keys: Sequence[str] = (),
) -> Dataset:
    """Read a file of D4RL, robomimic or OGBench, or a dataset of Minari or LeRobot, or make built-in data by its name.

    Args:
        path_or_id: a file, a folder of Minari or LeRobot, ``minari:ID``, ``ogbench:NAME``, ``lerobot:FOLDER``, or one
            of ``point-maze-mixed``, ``point-maze-large``, ``point-maze-halves``, ``point-maze-fork``,
            ``point-maze-fork-good``, ``point-maze-energy`` and ``trading-dual-thrust``.
        max_episode_steps: of the environment, for files without timeouts.
        mapped: leave what an HDF5 file holds uncompressed in the file.
        observation_keys: which observations of robomimic or LeRobot, in this order; default: all that are vectors.

    Raises:
        UserError: when there is no such file, or it is not a readable dataset.
    """
    name = str(path_or_id)
    check_named(name, "dataset")
    if name in BUILT_IN_DATASETS:
        from balrl.envs.trading_players import rule_dataset
        from balrl.envs.waypoints import energy_dataset, fork_dataset, halves_dataset, mixed_dataset

        if name == "trading-dual-thrust":
            return rule_dataset()
        if name == "point-maze-halves":
            return halves_dataset()
        if name == "point-maze-energy":
            return energy_dataset()
        if name.startswith("point-maze-fork"):
            return fork_dataset(name)
        return mixed_dataset(layout="large" if name == "point-maze-large" else "medium", name=name)
    path = Path(name.removeprefix(LEROBOT))
    if name.startswith(LEROBOT) or (path / "meta").is_dir():
        from balrl.data.lerobot import load_lerobot

        return load_lerobot(path, observation_keys)
    if path.suffix in HDF5 and path.is_file():
        from balrl.data.robomimic import is_robomimic, load_robomimic

        if is_robomimic(path):
            return load_robomimic(path, observation_keys)
    if observation_keys:
        raise UserError(f"data.observation_keys is for data of robomimic or LeRobot, '{name}' has one array of them")
    if name.startswith(MINARI) or path.is_dir():
        from balrl.data.minari import load_minari
        from balrl.envs.robotics import observation_adapter

        return load_minari(name.removeprefix(MINARI), observation_adapter)
    if name.startswith(OGBENCH):
        from balrl.data.ogbench import load_ogbench

        return load_ogbench(name.removeprefix(OGBENCH))
    if not path.is_file():
        hint = did_you_mean(name, BUILT_IN_DATASETS)
        raise UserError(
            f"no dataset file at '{path}'{hint}; give an HDF5 file of D4RL or robomimic, an OGBench npz file, a folder "
            f"of LeRobot, minari:ID, ogbench:NAME or a built-in name: {', '.join(BUILT_IN_DATASETS)}"
        )
    if path.suffix == NPZ:
        from balrl.data.ogbench import load_npz

        return load_npz(path)
    from balrl.data.d4rl import load_d4rl

    return load_d4rl(path, max_episode_steps, mapped)


def inspection_context(env_id: str | None) -> TaskContext:
    """Return what a task's spaces and step limit say about data for it; nothing without a task."""
    from balrl.data.inspect import TaskContext
    from balrl.spaces import SpaceAdapter

    if env_id is None:
        return TaskContext()
    env = make_env(env_id, 1)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    box: Any = env.single_action_space
    return TaskContext(box.low, box.high, spaces.observation_dim, spaces.action_dim, step_limit(env))


def step_limit(env: gym.vector.VectorEnv[Any, Any, Any]) -> int | None:
    """Return an environment's step limit: a torch environment's own, its worlds', or its registration's."""
    own = getattr(env.unwrapped, "max_episode_steps", None)
    worlds = getattr(env.unwrapped, "envs", None)
    if own is None and worlds:
        from balrl.envs.gymnasium_env import time_limit

        own = time_limit(worlds[0])
    return own or (env.spec.max_episode_steps if env.spec else None)


def task_fingerprint(env: gym.vector.VectorEnv[Any, Any, Any]) -> str:
    """Return a hash of what is known of a task from outside: its spaces and its step limit."""
    from balrl.spaces import space_to_json

    known = [space_to_json(env.single_observation_space), space_to_json(env.single_action_space), step_limit(env)]
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=12).hexdigest()


def task_of_dataset(path_or_id: str) -> str | None:
    """Return the task that a dataset names as its own, without reading its transitions; None if it names none."""
    if path_or_id in BUILT_IN_DATASETS or path_or_id.startswith((MINARI, OGBENCH)) or Path(path_or_id).is_dir():
        return load_dataset(path_or_id).env_id
    if Path(path_or_id).suffix == NPZ:
        return None
    from balrl.data.d4rl import read_attributes

    return read_attributes(Path(path_or_id)).get("env_id")


def make_agent(
    config: AgentConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    device: torch.device | str = "cpu",
) -> Agent:
    """Build the agent that a configuration names."""
    return agent_class(config)(observation_space, action_space, config, device)


def reference_of(task: str | GivenTask, env: gym.vector.VectorEnv[Any, Any, Any]) -> Reference | None:
    """Return what scores on an environment are normalised with: its own reference, or D4RL's."""
    from balrl.data.reference import reference_for
    from balrl.evaluation import Reference

    own, name = getattr(env, "reference_returns", None), str(task)
    return Reference(own[0], own[1], name) if own else reference_for(name)
