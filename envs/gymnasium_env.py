"""Gymnasium's own environments, side by side, with a state that can be saved where the physics allows it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from torch import Tensor

from balrl.envs.checked import CheckedWorld
from balrl.envs.multi_objective import is_multi_objective
from balrl.envs.robotics import AdaptedObservation, observation_adapter

# Derived quantities that Gymnasium's tasks read between steps; the simulator leaves them one integration step behind.
DERIVED = ("xpos", "xquat", "xmat", "xipos", "ximat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat",
           "subtree_com", "cinert", "cvel", "cfrc_ext", "qfrc_actuator", "sensordata")  # fmt: skip
# Model fields that tasks move at reset, such as the door of AdroitHandDoor.
MODEL = ("body_pos", "body_quat", "site_pos", "site_quat")

DEFAULT_LIMIT = 10_000
"""Steps of an episode where neither the task nor anybody else says."""


class ResumableSyncVectorEnv(VectorWrapper):
    """A synchronous vector of Gymnasium MuJoCo environments whose full state can be saved and restored.

    The state is the integration state of the simulator (warm start included), the derived quantities that observations
    and rewards read, what the task moved in the model, the time limit's counter and the generator: going on from it
    gives exactly what not stopping would have given. It is tensors only; nothing is pickled.
    """

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, one key per world and quantity."""
        state: dict[str, Tensor] = {}
        for index, env in enumerate(_worlds(self)):
            for key, value in _world_state(env).items():
                state[f"{index}.{key}"] = torch.from_numpy(np.array(value))
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for index, env in enumerate(_worlds(self)):
            prefix = f"{index}."
            _load_world_state(
                env,
                {key.removeprefix(prefix): v.cpu().numpy() for key, v in state.items() if key.startswith(prefix)},
            )


def make_gymnasium_env(
    env_id: str, num_envs: int, kwargs: dict[str, Any], ends_episode: bool = False
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build worlds of a registered task side by side; see `side_by_side`.

    Args:
        env_id: Gymnasium id.
        num_envs: how many.
        kwargs: of `gymnasium.make`.
        ends_episode: see `CheckedWorld`.
    """
    adapter = observation_adapter(env_id)

    def make() -> gym.Env[Any, Any]:
        # Gymnasium's checker knows one reward; every world is checked by `side_by_side`'s.
        env = gym.make(env_id, **({"disable_env_checker": True} if is_multi_objective(env_id) else {}), **kwargs)
        return AdaptedObservation(env, adapter) if adapter else env

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
        return side_by_side([make() for _ in range(num_envs)], ends_episode=ends_episode)


def side_by_side(
    worlds: Sequence[gym.Env[Any, Any]], max_episode_steps: int | None = None, ends_episode: bool = False
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Return worlds as a synchronous vector with SAME_STEP autoreset, resumable where their physics is MuJoCo's own.

    Every world is checked at every step, and has a step limit: its own, or `max_episode_steps`, or `DEFAULT_LIMIT` with
        a
    warning.

    Args:
        worlds: alike.
        max_episode_steps: of an episode, in place of the task's own limit if it has one.
        ends_episode: see `CheckedWorld`.
    """
    limit = max_episode_steps
    if limit is None and time_limit(worlds[0]) is None:
        limit = DEFAULT_LIMIT
        name = worlds[0].spec.id if worlds[0].spec else type(worlds[0].unwrapped).__name__
        warnings.warn(
            f"{name} has no step limit: its episodes are cut at {limit:,} steps; set "
            "environment.max_episode_steps to choose",
            stacklevel=2,
        )
    limited = [_limited(world, limit) if limit else world for world in worlds]
    checked = [CheckedWorld(world, index, ends_episode) for index, world in enumerate(limited)]
    env = SyncVectorEnv([partial(_itself, world) for world in checked], autoreset_mode=AutoresetMode.SAME_STEP)
    env.spec = worlds[0].spec
    rewards = getattr(worlds[0].unwrapped, "reward_space", None)
    if rewards is not None and np.prod(rewards.shape, dtype=int) > 1:
        env.reward_space = rewards  # type: ignore[attr-defined]
        env._rewards = np.zeros((len(worlds), *rewards.shape))  # Gymnasium's own has room for one reward a world
    return ResumableSyncVectorEnv(env) if all(_is_resumable(world) for world in checked) else env


def time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Return a world's step limit, if it has one."""
    found = _time_limit(env)
    return int(found._max_episode_steps) if found else None


def _limited(env: gym.Env[Any, Any], limit: int) -> gym.Env[Any, Any]:
    found = _time_limit(env)
    if found is None:
        return gym.wrappers.TimeLimit(env, limit)
    found._max_episode_steps = limit
    return env


def _itself(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env


def _worlds(env: gym.vector.VectorEnv[Any, Any, Any]) -> list[gym.Env[Any, Any]]:
    return env.unwrapped.envs  # type: ignore[attr-defined]


def _is_resumable(env: gym.Env[Any, Any]) -> bool:
    from gymnasium.envs.mujoco import MujocoEnv

    return isinstance(env.unwrapped, MujocoEnv) and isinstance(env.unwrapped.np_random.bit_generator, np.random.PCG64)


def _time_limit(env: gym.Env[Any, Any]) -> Any:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return env
        env = env.env
    return None


def _world_state(env: gym.Env[Any, Any]) -> dict[str, Any]:
    import mujoco

    task: Any = env.unwrapped
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(task.model, kind))
    mujoco.mj_getState(task.model, task.data, physics, kind)
    limit = _time_limit(env)
    return {
        "physics": physics,
        **{f"data.{name}": getattr(task.data, name) for name in DERIVED},
        **{f"model.{name}": getattr(task.model, name) for name in MODEL},
        "elapsed": limit._elapsed_steps if limit else 0,
        "generator": _generator_words(task.np_random),
    }


def _load_world_state(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    import mujoco

    task: Any = env.unwrapped
    for name in MODEL:
        getattr(task.model, name)[:] = state[f"model.{name}"]
    mujoco.mj_setState(task.model, task.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(task.model, task.data)
    mujoco.mj_setState(task.model, task.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name in DERIVED:
        getattr(task.data, name)[:] = state[f"data.{name}"]
    limit = _time_limit(env)
    if limit:
        limit._elapsed_steps = int(state["elapsed"])
    _set_generator_words(task.np_random, state["generator"])


def _generator_words(generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return PCG64's state as seven 32-bit-safe integers: two 128-bit numbers in 64-bit halves, and the spare draw."""
    state: Any = generator.bit_generator.state
    mask = 2**64 - 1
    words = [f(state["state"][key]) for key in ("state", "inc") for f in (lambda v: v >> 64, lambda v: v & mask)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64).view(np.int64)


def _set_generator_words(generator: np.random.Generator, words: np.ndarray[Any, Any]) -> None:
    w = [int(x) for x in words.view(np.uint64)]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": w[0] << 64 | w[1], "inc": w[2] << 64 | w[3]},
        "has_uint32": w[4],
        "uinteger": w[5],
    }
