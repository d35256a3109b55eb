"""Environments, data and agents by their names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.agents.registration import agent_class
from balrl.config import AgentConfig
from balrl.data import MINARI
from balrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agent import Agent
    from balrl.data.dataset import Dataset
    from balrl.data.inspect import TaskContext
    from balrl.evaluation import Reference

BUILT_IN_DATASETS = ("point-maze-mixed", "point-maze-large", "point-maze-halves")


def resolve_device(name: str) -> torch.device:
    """Return the device that a configuration names; ``auto`` is a GPU where there is one.

    Raises:
        UserError: when there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"no device '{name}' here; found {', '.join(found)}") from error
    return device


def make_env(
    env_id: str, num_envs: int, device: torch.device | str = "cpu", kwargs: Mapping[str, Any] | None = None
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build a vector environment by its Gymnasium id: ours on the device, others' on the CPU."""
    import gymnasium as gym

    from balrl.envs.gymnasium_env import make_gymnasium_env
    from balrl.envs.robotics import register_robotics

    if env_id not in gym.registry:
        register_robotics()
    options = dict(kwargs or {})
    try:
        if env_id.startswith("balrl/"):
            return gym.make_vec(env_id, num_envs=num_envs, device=device, **options)
        return make_gymnasium_env(env_id, num_envs, options)
    except gym.error.UnregisteredEnv as error:
        robotics = "Adroit" in env_id or "Maze" in env_id
        extra = "; its package comes with: pip install 'balrl[robotics]'" if robotics else ""
        hint = did_you_mean(env_id, gym.registry)
        raise UserError(f"no environment '{env_id}' is registered with Gymnasium{hint}{extra}") from error
    except Exception as error:  # whatever the task's own constructor objects to, it is what the user asked for
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"environment '{env_id}' cannot be made with {options}: {reason}") from error


def make_drawn_env(
    env_id: str, device: torch.device | str = "cpu", kwargs: Mapping[str, Any] | None = None
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build one world that can be drawn, without a display where there is none."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo's own choice needs a display
    drawn = {} if env_id.startswith("balrl/") else {"render_mode": "rgb_array"}
    return make_env(env_id, 1, device, {**(kwargs or {}), **drawn})


def load_dataset(path_or_id: str | Path, max_episode_steps: int | None = None, mapped: bool = False) -> Dataset:
    """Read a D4RL HDF5 file or a Minari dataset, or make built-in data by its name.

    Args:
        path_or_id: a file, a Minari folder, ``minari:ID``, or one of ``point-maze-mixed``, ``point-maze-large`` and
            ``point-maze-halves``.
        max_episode_steps: of the environment, for files without timeouts.
        mapped: leave what an HDF5 file holds uncompressed in the file.

    Raises:
        UserError: when there is no such file, or it is not a readable dataset.
    """
    name = str(path_or_id)
    if name in BUILT_IN_DATASETS:
        from balrl.envs.waypoints import halves_dataset, mixed_dataset

        if name == "point-maze-halves":
            return halves_dataset()
        return mixed_dataset(layout="large" if name == "point-maze-large" else "medium", name=name)
    path = Path(path_or_id)
    if name.startswith(MINARI) or path.is_dir():
        from balrl.data.minari import load_minari
        from balrl.envs.robotics import observation_adapter

        return load_minari(name.removeprefix(MINARI), observation_adapter)
    if not path.is_file():
        hint = did_you_mean(name, BUILT_IN_DATASETS)
        raise UserError(
            f"no dataset file at '{path}'{hint}; give a D4RL HDF5 file, minari:ID or a built-in name: "
            f"{', '.join(BUILT_IN_DATASETS)}"
        )
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
    """Return an environment's step limit: a torch environment's own, or its registration's."""
    own = getattr(env.unwrapped, "max_episode_steps", None)
    return own or (env.spec.max_episode_steps if env.spec else None)


def make_agent(
    config: AgentConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    device: torch.device | str = "cpu",
) -> Agent:
    """Build the agent that a configuration names."""
    return agent_class(config)(observation_space, action_space, config, device)


def reference_of(env_id: str, env: gym.vector.VectorEnv[Any, Any, Any]) -> Reference | None:
    """Return what scores on an environment are normalised with: its own reference, or D4RL's."""
    from balrl.data.reference import reference_for
    from balrl.evaluation import Reference

    own = getattr(env, "reference_returns", None)
    return Reference(own[0], own[1], env_id) if own else reference_for(env_id)
