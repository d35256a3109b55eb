"""Vectorised environments on a device, registered with Gymnasium as ``balrl/<Task>``, and adapters to others'."""

from __future__ import annotations

import gymnasium as gym

from balrl.envs.point_maze import PointMazeVectorEnv
from balrl.envs.torch_env import TorchVectorEnv

__all__ = ["PointMazeVectorEnv", "TorchVectorEnv"]

gym.register(
    "balrl/PointMaze-v0",
    entry_point="balrl.envs.point_maze:make_point_maze",
    vector_entry_point="balrl.envs.point_maze:PointMazeVectorEnv",
)
