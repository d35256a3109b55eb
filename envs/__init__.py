"""Vectorised environments on a device, registered with Gymnasium as ``balrl/<Task>``, and adapters to others'."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from balrl.envs.classic import CartPoleSwingUpVectorEnv, MountainCarVectorEnv, PendulumVectorEnv
from balrl.envs.mujoco_env import MujocoVectorEnv
from balrl.envs.mujoco_tasks import TASKS
from balrl.envs.point_maze import PointMazeVectorEnv
from balrl.envs.torch_env import TorchVectorEnv

__all__ = [
    "CartPoleSwingUpVectorEnv",
    "MountainCarVectorEnv",
    "MujocoVectorEnv",
    "PendulumVectorEnv",
    "PointMazeVectorEnv",
    "TorchVectorEnv",
    "registered",
]

_REGISTERED: dict[str, tuple[Any, dict[str, Any]]] = {
    "PointMaze-v0": (PointMazeVectorEnv, {}),
    "Pendulum-v1": (PendulumVectorEnv, {}),
    "MountainCarContinuous-v0": (MountainCarVectorEnv, {}),
    "CartPoleSwingUp-v0": (CartPoleSwingUpVectorEnv, {}),
    **{name: (MujocoVectorEnv, {"task": name}) for name in TASKS},
}
for _name, (_kind, _kwargs) in _REGISTERED.items():
    gym.register(f"balrl/{_name}", entry_point=_kind.single, vector_entry_point=_kind, kwargs=_kwargs)


def registered() -> dict[str, type[TorchVectorEnv]]:
    """Return the class of every task that is registered here, by its id."""
    return {f"balrl/{name}": kind for name, (kind, _) in _REGISTERED.items()}
