from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl.envs
from balrl.envs.point_maze import LAYOUTS, MAX_SPEED, PointMazeVectorEnv
from balrl.envs.waypoints import MIXED, WaypointController, mixed_dataset
from balrl.evaluation import evaluate_policy


def test_dynamics_in_free_space_are_the_documented_ones() -> None:
    env = PointMazeVectorEnv(1, dtype=torch.float64)
    env.reset(seed=0)
    env.states = torch.tensor([[4.5, 2.5, 0.05, -0.1]], dtype=torch.float64)
    env.step(torch.tensor([[0.5, 1.0]]))
    vx, vy = 0.8 * 0.05 + 0.06 * 0.5, 0.8 * -0.1 + 0.06
    torch.testing.assert_close(env.states, torch.tensor([[4.5 + vx, 2.5 + vy, vx, vy]], dtype=torch.float64))


def test_walls_stop_one_axis_and_let_the_other_slide() -> None:
    env = PointMazeVectorEnv(1, dtype=torch.float64)
    env.reset(seed=0)
    env.states = torch.tensor([[1.2, 1.5, -0.2, 0.1]], dtype=torch.float64)
    env.step(torch.tensor([[-1.0, 0.0]]))
    x, y, vx, vy = env.states[0].tolist()
    assert (x, vx) == (1.2, 0.0)
    assert (y, vy) == pytest.approx((1.58, 0.08))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_random_walks_never_enter_a_wall(layout: str) -> None:
    env = PointMazeVectorEnv(200, layout)
    observations, _ = env.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        x, y = env.states[:, 0].long(), env.states[:, 1].long()
        assert not env.walls[y, x].any()
        assert observations.abs().max() <= 1 + 1e-6
        observations, *_ = env.step(2 * torch.rand(200, 2, generator=generator) - 1)


def test_goal_terminates_with_reward_zero_and_success() -> None:
    env = PointMazeVectorEnv(2)
    env.reset(seed=0)
    env.states[0] = torch.cat([env.goal + torch.tensor([-0.45, -0.45]), torch.tensor([MAX_SPEED, MAX_SPEED])])
    _, rewards, terminated, truncated, infos = env.step(torch.ones(2, 2))
    assert rewards.tolist() == [0.0, -1.0]
    assert terminated.tolist() == infos["success"].tolist() == [True, False]
    assert not truncated.any()
    assert (env.states[0, :2] - env.goal).norm() > 0.5  # already in the next episode
    torch.testing.assert_close(env.states_of(infos["final_obs"])[0, :2], env.goal, rtol=0, atol=0.5)


def test_time_limit_truncates_and_resets() -> None:
    env = PointMazeVectorEnv(3, max_episode_steps=4)
    env.reset(seed=0)
    flags = [env.step(torch.zeros(3, 2))[3].tolist() for _ in range(8)]
    assert flags == [[False] * 3] * 3 + [[True] * 3] + [[False] * 3] * 3 + [[True] * 3]


def test_seeds_repeat_and_state_round_trips() -> None:
    def run(env: PointMazeVectorEnv, steps: int) -> torch.Tensor:
        return torch.stack([env.step(torch.ones(5, 2) * 0.3)[0] for _ in range(steps)])

    one, other = PointMazeVectorEnv(5, max_episode_steps=6), PointMazeVectorEnv(5, max_episode_steps=6)
    one.reset(seed=11)
    other.reset(seed=11)
    assert torch.equal(run(one, 20), run(other, 20))
    state = {key: value.clone() for key, value in one.state_dict().items()}
    expected = run(one, 20)
    third = PointMazeVectorEnv(5, max_episode_steps=6)
    third.load_state_dict(state)
    assert torch.equal(run(third, 20), expected)
    other.reset(seed=12)
    assert not torch.equal(other.states, one.states)


def test_observations_show_the_state() -> None:
    env = PointMazeVectorEnv(50, "large", dtype=torch.float64)
    observations, _ = env.reset(seed=0)
    torch.testing.assert_close(env.states_of(observations), env.states)


def test_registered_with_gymnasium() -> None:
    env = gym.make_vec("balrl/PointMaze-v0", num_envs=7, layout="umaze", device="cpu")
    assert env.unwrapped.layout == "umaze"
    observations, _ = env.reset(seed=0)
    assert isinstance(observations, torch.Tensor)
    single = gym.make("balrl/PointMaze-v0")
    observation, _ = single.reset(seed=0)
    assert isinstance(observation, np.ndarray)
    assert single.observation_space.contains(observation)
    observation, reward, terminated, truncated, info = single.step(single.action_space.sample())
    assert (reward, terminated, truncated) == (-1.0, False, False)
    assert info["success"] == np.False_
    assert balrl.envs.__all__
    with pytest.raises(ValueError, match="expected one of"):
        PointMazeVectorEnv(1, "tiny")


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_reference_returns_are_what_random_and_scripted_policies_get(layout: str) -> None:
    env = PointMazeVectorEnv(500, layout)
    controller = WaypointController(env)
    generator = torch.Generator().manual_seed(1)
    best = evaluate_policy(lambda o: controller(env.states_of(o)), env, 1000, 1)
    worst = evaluate_policy(lambda o: 2 * torch.rand(len(o), 2, generator=generator) - 1, env, 1000, 1)
    assert best.success_rate == 1.0
    assert best.mean_return == pytest.approx(env.reference_returns[1], rel=0.05)
    assert worst.mean_return == pytest.approx(env.reference_returns[0], rel=0.05)


def test_mixed_data_is_repeatable_ordered_and_mixed() -> None:
    data = mixed_dataset(5_000, seed=3)
    assert len(data) == 5_000
    assert data.fingerprint() == mixed_dataset(5_000, seed=3).fingerprint()
    assert data.fingerprint() != mixed_dataset(5_000, seed=4).fingerprint()
    inside = ~data.ends[:-1]
    np.testing.assert_array_equal(data.next_observations[:-1][inside], data.observations[1:][inside])
    assert np.abs(data.actions).max() <= 1
    assert data.terminated.any()
    assert sum(level.share for level in MIXED) == pytest.approx(1)
    assert data.episode_lengths.min() < 40
    assert data.episode_lengths.max() == 100  # 5,000 transitions of 50 worlds: 100 each
