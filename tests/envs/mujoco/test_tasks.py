"""Every task's settings are its original's."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import mujoco
import pytest
import torch

from balrl.envs.mujoco.locomotion import Runner
from balrl.envs.mujoco.task import State
from balrl.envs.mujoco.tasks import TASKS
from balrl.envs.robotics import register_robotics
from balrl.spaces import SpaceAdapter
from tests.envs.mujoco.test_task import state_of, views_of

OPEN = (-float("inf"), float("inf"))


def original(name: str) -> Any:
    if name.startswith("PointMaze"):
        pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")
        register_robotics()
    return gym.make(name)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if isinstance(task, Runner)])
def test_runners_have_gymnasium_s_weights_and_ranges(name: str) -> None:
    task: Any = TASKS[name]
    theirs = vars(original(name).unwrapped)
    assert task.noise == theirs["_reset_noise_scale"]
    assert task.control_cost == theirs["_ctrl_cost_weight"]
    assert theirs["_forward_reward_weight"] == 1
    assert task.healthy_reward == theirs.get("_healthy_reward", 0)
    assert (task.height or OPEN) == theirs.get("_healthy_z_range", OPEN)
    assert (task.angle or OPEN) == theirs.get("_healthy_angle_range", OPEN)
    limit = task.state_limit or float("inf")
    assert (-limit, limit) == theirs.get("_healthy_state_range", OPEN)


@pytest.mark.parametrize("name", TASKS)
def test_what_is_observed_is_as_wide_as_the_original_s_observation(name: str) -> None:
    made = original(name)
    task = TASKS[name].bound(made.unwrapped, torch.device("cpu"))
    views = views_of(getattr(made.unwrapped, "point_env", made.unwrapped).data)
    state: State = state_of(task, views)
    qpos, qvel = (views[key][0] for key in ("qpos", "qvel"))
    goal = task.begin(qpos, qvel, lambda n: torch.zeros(1, n), lambda n: torch.zeros(1, n)).goal
    observed = task.observe(state if goal is None else state._replace(goal=goal))
    assert observed.shape == (1, SpaceAdapter(made.observation_space, made.action_space).observation_dim)


@pytest.mark.parametrize("name", TASKS)
def test_the_solver_is_replaced_where_the_original_s_is_the_one_that_warp_lacks(name: str) -> None:
    simulated = original(name).unwrapped
    model = getattr(simulated, "point_env", simulated).model
    assert TASKS[name].newton == (model.opt.solver == mujoco.mjtSolver.mjSOL_PGS)


@pytest.mark.parametrize("size", ["UMaze", "Medium", "Large"])
def test_mazes_pay_by_distance_where_their_name_says_dense_and_at_the_goal_elsewhere(size: str) -> None:
    views = {key: torch.tensor([[1.0, 2.0], [3.0, 0.4]]) for key in ("qpos", "qvel", "qacc_warmstart")}
    for kind, expected in (("", [0.0, 1.0]), ("Dense", [math.exp(-math.sqrt(2)), math.exp(-0.4)])):
        task = TASKS[f"PointMaze_{size}{kind}-v3"]
        before = state_of(task, views)._replace(goal=torch.tensor([[2.0, 1.0], [3.0, 0.0]]))
        assert task.outcome(before, views, views["qpos"], 0.1).rewards.tolist() == pytest.approx(expected, abs=1e-6)
