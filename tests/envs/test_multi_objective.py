"""Several rewards from worlds: side by side, on the device, weighted, and checked."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.envs import PointMazeVectorEnv
from balrl.envs.gymnasium_env import side_by_side
from balrl.envs.multi_objective import WeightedRewards, is_multi_objective
from balrl.errors import EnvironmentFault, UserError
from balrl.rollout import Collector
from balrl.run.registry import make_env
from balrl.spaces import reward_dim


class TwoRewards(gym.Env[Any, Any]):
    """Pays the action and the step's number; ends after four steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    reward_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, wrong: Any = None) -> None:
        self.t, self.wrong = 0, wrong

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = np.array([float(action[0]), self.t]) if self.wrong is None else self.wrong
        return np.full(1, self.t, np.float32), reward, self.t == 4, False, {}


def worlds(**settings: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
    return side_by_side([TwoRewards(**settings) for _ in range(3)], max_episode_steps=10)


def test_several_rewards_travel_from_worlds_to_batches_and_returns() -> None:
    collector = Collector(worlds(), seed=0)
    assert collector.reward_dim == 2
    actions = torch.tensor([[0.5], [-0.25], [1.0]])
    for t in range(1, 5):
        step = collector.step(lambda o: actions)
        torch.testing.assert_close(step.batch.rewards, torch.cat([actions, torch.full((3, 1), float(t))], -1))
    torch.testing.assert_close(step.returns, torch.cat([4 * actions, torch.full((3, 1), 10.0)], -1).double())
    ended = collector.pop_ended()
    assert ended == pytest.approx({"return_1": 4 * 1.25 / 3, "return_2": 10.0, "length": 4.0})
    assert collector.step(lambda o: actions).returns[:, 1].tolist() == [1, 1, 1]


def test_running_returns_are_saved() -> None:
    one, other = Collector(worlds(), seed=0), Collector(worlds(), seed=0)
    one.step(lambda o: torch.ones(3, 1))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.returns, other.returns)


def test_weights_make_one_reward_of_them() -> None:
    env = WeightedRewards(worlds(), (2.0, -0.5))
    assert reward_dim(env) == 1
    step = Collector(env, seed=0).step(lambda o: torch.full((3, 1), 0.5))
    assert step.batch.rewards.tolist() == [0.5] * 3
    maze = PointMazeVectorEnv(3, "umaze", energy=True)
    assert reward_dim(maze) == 2
    weighted = WeightedRewards(maze, (1.0, 3.0))
    weighted.reset(seed=0)
    assert weighted.step(torch.ones(3, 2))[1].tolist() == [-4.0] * 3
    assert set(weighted.state_dict()) == set(maze.state_dict())


@pytest.mark.parametrize(("env", "count"), [(worlds, 2), (lambda: PointMazeVectorEnv(2), 1)])
def test_weights_that_are_too_many_are_counted(env: Any, count: int) -> None:
    with pytest.raises(UserError, match=f"3 numbers, the task pays {count} reward"):
        WeightedRewards(env(), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("wrong", [1.0, np.zeros(3), np.array([1.0, np.nan])])
def test_a_world_that_pays_something_else_is_named(wrong: Any) -> None:
    collector = Collector(worlds(wrong=wrong), seed=0)
    with pytest.raises(EnvironmentFault, match=r"world 0, step 1 .* expected 2 finite numbers"):
        collector.step(lambda o: torch.zeros(3, 1))


def test_the_maze_with_energy_is_the_maze_and_pays_for_acceleration() -> None:
    plain, paying = PointMazeVectorEnv(4, "umaze"), PointMazeVectorEnv(4, "umaze", energy=True)
    for env in (plain, paying):
        env.reset(seed=3)
    actions = torch.tensor([[1.0, 0.0], [0.5, -0.5], [0.0, 0.0], [1.0, 1.0]])
    (observations, rewards, *_), (same, both, *_) = plain.step(actions), paying.step(actions)
    assert torch.equal(observations, same)
    assert torch.equal(rewards, both[:, 0])
    assert both[:, 1].tolist() == [-0.5, -0.25, 0.0, -1.0]
    single = gym.make("balrl/PointMazeEnergy-v0")
    single.reset(seed=0)
    assert np.shape(single.step(np.ones(2, np.float32))[1]) == (2,)


def test_mo_gymnasium_s_tasks_are_found_by_name() -> None:
    pytest.importorskip("mo_gymnasium", reason="mo-gymnasium is not installed")
    assert is_multi_objective("mo-hopper-v5")
    assert not is_multi_objective("Hopper-v5")
    env = make_env("mo-hopper-v5", 2)
    try:
        assert reward_dim(env) == 3
        step = Collector(env, seed=0).step(lambda o: torch.zeros(2, 3))
        assert step.batch.rewards.shape == (2, 3)
        state = env.state_dict()  # MuJoCo's own: it goes on bit for bit
        first = env.step(np.ones((2, 3), np.float32))
        env.load_state_dict(state)
        again = env.step(np.ones((2, 3), np.float32))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
    finally:
        env.close()


def test_without_the_package_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"balrl\[multi-objective\]"):
        make_env("mo-no-such-task-v0", 1)
