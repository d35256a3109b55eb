"""gymnasium-robotics' point mazes on MuJoCo Warp."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.envs.mujoco.env import MujocoVectorEnv
from balrl.envs.robotics import register_robotics
from balrl.errors import UserError
from balrl.rollout import Collector
from balrl.run.registry import make_env

pytest.importorskip("mujoco_warp", reason="the extra 'warp' is not installed")
pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")

MAZES = ["PointMaze_UMaze-v3", *(pytest.param(f"PointMaze_{size}-v3", marks=pytest.mark.slow)
                                 for size in ("UMazeDense", "Medium", "Large"))]  # fmt: skip


def original(name: str) -> Any:
    register_robotics()
    return gym.make(name)


@pytest.mark.parametrize("name", MAZES)
def test_one_step_is_gymnasium_robotics(name: str) -> None:
    """From everywhere in the maze, also into walls and faster than is allowed: to 2e-3."""
    env, made = MujocoVectorEnv(32, name, check_overflow=True), original(name)
    task = made.unwrapped
    made.reset(seed=0)
    assert env.single_action_space == task.action_space
    assert env.max_episode_steps == made.spec.max_episode_steps
    env.reset(seed=0)
    env.states[:, 2:4] = 7 * (2 * torch.rand(32, 2) - 1)
    reached, off = 0, []
    for step in range(40):
        if step == 10:  # half of the worlds next to their goals
            env.states[:16, :2] = env.states[:16, -2:] + 0.5 * torch.rand(16, 2)
        goals = env.states[:, -2:].double().numpy()
        before, actions = env.states.double().numpy(), np.sign(np.random.default_rng(step).uniform(-1, 1, (32, 2)))
        _, rewards, terminated, _, infos = env.step(actions)
        assert not terminated.any()
        for i in range(32):
            task.goal = goals[i]
            task.point_env.set_state(before[i, :2], before[i, 2:4])
            observation, reward, _, _, info = task.step(actions[i])
            expected = np.concatenate([observation["observation"], observation["desired_goal"]])
            found = infos["final_obs"][i].numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
            assert rewards[i].item() == pytest.approx(reward, abs=1e-3)
            off.append((np.abs(found - expected).max(), abs(rewards[i].item() - reward)))
            assert bool(infos["success"][i]) == info["success"]
            reached += info["success"]
    worst, median = np.max(off, 0), np.median(off, 0)
    print(f"| {name} | {len(off)} | {worst[0]:.1e} | {median[0]:.1e} | {worst[1]:.1e} |")
    assert reached > 20


def test_starts_and_goals_are_distinct_free_cells_and_a_little_beside() -> None:
    env = MujocoVectorEnv(3000, "PointMaze_UMaze-v3", graph=False)
    env.reset(seed=0)
    cells = torch.tensor(np.array(original("PointMaze_UMaze-v3").unwrapped.maze.unique_goal_locations))
    starts, goals = (torch.cdist(env.states[:, part].double(), cells) for part in (slice(0, 2), slice(-2, None)))
    assert max(starts.min(-1).values.max(), goals.min(-1).values.max()) <= 0.25 * 2**0.5 + 1e-6
    pairs = torch.stack([starts.argmin(-1), goals.argmin(-1)], -1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len(pairs.unique(dim=0)) == len(cells) * (len(cells) - 1)
    assert (env.states[:, 2:4] == 0).all()


def test_policies_see_both_alike() -> None:
    """Observations are flattened as those of the original are."""
    ours, theirs = (Collector(make_env(prefix + "PointMaze_UMaze-v3", 2), seed=0) for prefix in ("balrl/", ""))
    assert ours.spaces.observation_dim == theirs.spaces.observation_dim
    assert ours.observations[0, 2:4].tolist() == theirs.observations[0, 2:4].tolist() == [0, 0]


def test_without_its_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: Any, **__: Any) -> None:
        raise gym.error.NameNotFound("PointMaze")

    monkeypatch.setattr(gym, "make", make)
    with pytest.raises(UserError, match=r"pip install 'balrl\[robotics\]'"):
        MujocoVectorEnv(2, "PointMaze_UMaze-v3")
