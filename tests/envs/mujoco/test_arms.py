"""Reaching and pushing are judged as Gymnasium judges them, and begin where its episodes do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from balrl.envs.mujoco.arms import Pusher, Reacher
from balrl.envs.mujoco.task import Beginning, Task
from tests.envs.mujoco.test_task import judged, walk

EPISODES = 20_000


def beginnings(task: Task, name: str) -> tuple[Beginning, torch.Tensor]:
    """Return how many episodes begin, and the model's own positions."""
    original: Any = gym.make(name).unwrapped
    generator = torch.Generator().manual_seed(0)

    def uniform(width: int) -> torch.Tensor:
        return 2 * torch.rand(EPISODES, width, generator=generator, dtype=torch.float64) - 1

    qpos, qvel = torch.from_numpy(original.init_qpos.copy()), torch.from_numpy(original.init_qvel.copy())
    return task.begin(qpos, qvel, uniform, uniform), qpos


@pytest.mark.parametrize(("name", "task"), [("Reacher-v5", Reacher()), ("Pusher-v5", Pusher())])
def test_observations_and_rewards_are_gymnasium_s_exactly_and_nothing_ends(name: str, task: Task) -> None:
    made = walk(name, 0.2)
    observations, outcome = judged(task, made)
    torch.testing.assert_close(observations, made.observations, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outcome.rewards, made.rewards, rtol=1e-12, atol=1e-12)
    assert outcome.rewards.std() > 0.05
    assert not outcome.terminated.any()


def test_targets_are_spread_evenly_over_the_disk_and_rest() -> None:
    first, own = beginnings(Reacher(), "Reacher-v5")
    x, y = first.qpos[:, 2:].unbind(-1)
    assert kstest((x.square() + y.square()) / 0.2**2, "uniform").pvalue > 0.01
    assert kstest((torch.atan2(y, x) / torch.pi + 1) / 2, "uniform").pvalue > 0.01
    for joint in (0, 1):
        assert kstest(((first.qpos[:, joint] - own[joint]) / 0.1 + 1) / 2, "uniform").pvalue > 0.01
        assert kstest((first.qvel[:, joint] / 0.005 + 1) / 2, "uniform").pvalue > 0.01
    assert (first.qvel[:, 2:] == 0).all()


def test_cylinders_begin_where_tries_until_one_is_far_enough_put_them() -> None:
    first, own = beginnings(Pusher(), "Pusher-v5")
    rng = np.random.default_rng(1)
    tries = rng.uniform([-0.3, -0.2], [0.0, 0.2], (2 * EPISODES, 2))
    kept = tries[np.linalg.norm(tries, axis=1) > 0.17]
    cylinder = first.qpos[:, -4:-2].numpy()
    assert np.linalg.norm(cylinder, axis=1).min() > 0.17
    for axis in (0, 1):
        assert ks_2samp(cylinder[:, axis], kept[:, axis]).pvalue > 0.01
    assert (first.qpos[:, :7] == own[:7]).all()
    assert (first.qpos[:, -2:] == 0).all()
    assert (first.qvel[:, -4:] == 0).all()
    assert kstest((first.qvel[:, 3] / 0.005 + 1) / 2, "uniform").pvalue > 0.01
