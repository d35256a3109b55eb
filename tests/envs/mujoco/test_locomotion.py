"""Running forward is judged as Gymnasium judges it, on the original simulator's own numbers in float64."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.envs.mujoco.tasks import TASKS
from tests.envs.mujoco.test_task import judged, state_of, views_of, walk

SCALES = {
    "Hopper-v5": 0.3,
    "HalfCheetah-v5": 0.2,
    "Walker2d-v5": 1.2,
    "Swimmer-v5": 0.5,
    "Ant-v5": 0.3,
    "Humanoid-v5": 0.5,
}


@pytest.mark.parametrize("name", SCALES)
def test_observations_rewards_and_ends_are_gymnasium_s_exactly(name: str) -> None:
    made = walk(name, SCALES[name])
    observations, outcome = judged(TASKS[name], made)
    torch.testing.assert_close(observations, made.observations, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outcome.rewards, made.rewards, rtol=1e-9, atol=1e-9)
    assert torch.equal(outcome.terminated, made.terminated)
    assert 5 < outcome.terminated.sum() < 75 or name in ("HalfCheetah-v5", "Swimmer-v5")


@pytest.mark.parametrize(
    ("name", "index", "border"),
    [
        ("Hopper-v5", 1, 0.7),
        ("Hopper-v5", 2, 0.2),
        ("Hopper-v5", -1, 100.0),
        ("Walker2d-v5", 1, 2.0),
        ("Walker2d-v5", 2, -1.0),
        ("Ant-v5", 2, 0.2),
        ("Ant-v5", 2, 1.0),
        ("Humanoid-v5", 2, 1.0),
        ("Humanoid-v5", 2, 2.0),
    ],
)
def test_borders_belong_to_where_gymnasium_puts_them(name: str, index: int, border: float) -> None:
    original: Any = gym.make(name).unwrapped
    original.reset(seed=0)
    task, healthy = TASKS[name], []
    for value in (border - 1e-9, border, border + 1e-9):
        (original.data.qvel if index < 0 else original.data.qpos)[index] = value
        views = views_of(original.data)
        terminated = task.outcome(state_of(task, views), views, torch.zeros(1, 1).double(), 0.1).terminated
        assert terminated.item() != bool(original.is_healthy)
        healthy.append(bool(original.is_healthy))
    assert len(set(healthy)) == 2


@pytest.mark.parametrize(("name", "factor"), [("Ant-v5", 1e3), ("Humanoid-v5", 1.0), ("Humanoid-v5", 1e3)])
def test_forces_cost_what_gymnasium_takes_for_them_also_beyond_its_limit(name: str, factor: float) -> None:
    original: Any = gym.make(name).unwrapped
    original.reset(seed=0)
    original.data.cfrc_ext[:] = factor * np.random.default_rng(0).standard_normal(original.data.cfrc_ext.shape)
    original.data.ctrl[:] = action = np.full(original.action_space.shape, 0.3)
    task, views = TASKS[name], views_of(original.data)
    views["qpos"][:, :2], views["xpos"][:, :, :2], views["xipos"][:, :, :2] = 0, 0, 0
    outcome = task.outcome(state_of(task, views), views, torch.from_numpy(action[None]), 0.1)
    assert outcome.rewards.item() == pytest.approx(original._get_rew(0.0, action)[0], abs=1e-12)


def test_where_it_has_roamed_to_is_neither_observed_nor_remembered() -> None:
    for name in SCALES:
        task, views = TASKS[name], walk(name, SCALES[name], steps=3).after
        moved = {key: value.clone() for key, value in views.items()}
        moved["qpos"][:, : task.roaming] += 7
        for key in ("xpos", "xipos"):
            moved[key][..., : task.roaming] += 7
        here, there = state_of(task, views), state_of(task, moved)
        assert torch.equal(task.observe(here), task.observe(there))
        torch.testing.assert_close(here.memory, there.memory, rtol=0, atol=1e-12)
