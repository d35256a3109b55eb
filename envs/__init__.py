"""Vectorised environments on a device, registered with Gymnasium as ``balrl/<Task>``, and adapters to others'."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from balrl.envs.classic import CartPoleSwingUpVectorEnv, MountainCarVectorEnv, PendulumVectorEnv
from balrl.envs.contextual import ContextualVectorEnv
from balrl.envs.mujoco.env import MujocoVectorEnv
from balrl.envs.mujoco.tasks import TASKS
from balrl.envs.point_maze import PointMazeVectorEnv
from balrl.envs.torch_env import TorchVectorEnv
from balrl.envs.trading import TradingVectorEnv
from balrl.envs.velocity_masked import HOST_TASKS, PendulumMaskedVectorEnv

__all__ = [
    "CartPoleSwingUpVectorEnv",
    "ContextualVectorEnv",
    "MountainCarVectorEnv",
    "MujocoVectorEnv",
    "PendulumMaskedVectorEnv",
    "PendulumVectorEnv",
    "PointMazeVectorEnv",
    "TorchVectorEnv",
    "TradingVectorEnv",
    "registered",
]

_REGISTERED: dict[str, tuple[type[TorchVectorEnv], str, dict[str, Any]]] = {
    "PointMaze-v0": (PointMazeVectorEnv, "make_point_maze", {}),
    "Pendulum-v1": (PendulumVectorEnv, "make_pendulum", {}),
    "MountainCarContinuous-v0": (MountainCarVectorEnv, "make_mountain_car", {}),
    "Contextual-v0": (ContextualVectorEnv, "make_contextual", {}),
    "CartPoleSwingUp-v0": (CartPoleSwingUpVectorEnv, "make_cart_pole_swing_up", {}),
    "PendulumMasked-v0": (PendulumMaskedVectorEnv, "make_pendulum_masked", {}),
    "Trading-v0": (TradingVectorEnv, "make_trading", {}),
    "PointMazeEnergy-v0": (PointMazeVectorEnv, "make_point_maze", {"energy": True}),
    **{name: (MujocoVectorEnv, "make_mujoco", {"task": name}) for name in TASKS},
}
for _name, (_kind, _single, _kwargs) in _REGISTERED.items():
    gym.register(  # by name, since Gymnasium writes specifications as JSON
        f"balrl/{_name}",
        entry_point=f"{_kind.__module__}:{_single}",
        vector_entry_point=f"{_kind.__module__}:{_kind.__name__}",
        kwargs=_kwargs,
    )
for _name in HOST_TASKS:
    gym.register(
        _name,
        entry_point="balrl.envs.velocity_masked:make_masked",
        max_episode_steps=1_000,
        kwargs={"task": _name},
    )


def registered() -> dict[str, type[TorchVectorEnv]]:
    """Return the class of every task that is registered here, by its id."""
    return {f"balrl/{name}": kind for name, (kind, *_) in _REGISTERED.items()}
