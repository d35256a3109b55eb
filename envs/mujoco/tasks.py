"""Which tasks there are, with their settings."""

from __future__ import annotations

from balrl.envs.mujoco.arms import Pusher, Reacher
from balrl.envs.mujoco.locomotion import Ant, Humanoid, Runner
from balrl.envs.mujoco.maze import PointMaze
from balrl.envs.mujoco.pendulums import InvertedDoublePendulum, InvertedPendulum
from balrl.envs.mujoco.task import Task

TASKS: dict[str, Task] = {
    "Hopper-v5": Runner(
        noise=5e-3,
        control_cost=1e-3,
        healthy_reward=1.0,
        height=(0.7, float("inf")),
        angle=(-0.2, 0.2),
        state_limit=100.0,
        velocity_limit=10.0,
    ),
    "HalfCheetah-v5": Runner(noise=0.1, normal_velocities=True, control_cost=0.1),
    "Walker2d-v5": Runner(
        noise=5e-3, control_cost=1e-3, healthy_reward=1.0, height=(0.8, 2.0), angle=(-1.0, 1.0), velocity_limit=10.0
    ),
    "Ant-v5": Ant(),
    "Swimmer-v5": Runner(noise=0.1, control_cost=1e-4, roaming=2),
    "InvertedPendulum-v5": InvertedPendulum(),
    "InvertedDoublePendulum-v5": InvertedDoublePendulum(),
    "Reacher-v5": Reacher(),
    "Pusher-v5": Pusher(),
    "Humanoid-v5": Humanoid(),
    **{
        f"PointMaze_{size}{kind}-v3": PointMaze(dense=bool(kind))
        for size in ("UMaze", "Medium", "Large")
        for kind in ("", "Dense")
    },
}
"""By Gymnasium's id; mazes by gymnasium-robotics'."""
