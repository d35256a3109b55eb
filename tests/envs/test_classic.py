"""Classic tasks are Gymnasium's, step by step."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl.envs
from balrl.envs import CartPoleSwingUpVectorEnv, MountainCarVectorEnv, PendulumVectorEnv, TorchVectorEnv

KINDS = (PendulumVectorEnv, MountainCarVectorEnv, CartPoleSwingUpVectorEnv)


def test_pendulum_is_gymnasium_s() -> None:
    rng = np.random.default_rng(0)
    env, original = PendulumVectorEnv(64, dtype=torch.float64), gym.make("Pendulum-v1")
    task: Any = original.unwrapped
    assert env.single_action_space == original.action_space
    assert env.single_observation_space == original.observation_space
    assert env.max_episode_steps == original.spec.max_episode_steps  # type: ignore[union-attr]
    env.reset(seed=0)
    for _ in range(20):
        env.states = torch.from_numpy(rng.uniform([-9.0, -8.0], [9.0, 8.0], (64, 2)))
        before, actions = env.states.clone(), rng.uniform(-3, 3, (64, 1))  # also beyond the bounds
        _, rewards, terminated, _, infos = env.step(actions)
        assert not terminated.any()
        for i in range(64):
            task.state = before[i].numpy()
            observation, reward, _, _, _ = task.step(actions[i])
            np.testing.assert_allclose(infos["final_obs"][i].numpy(), observation, atol=1e-6)
            np.testing.assert_allclose(env.states[i].numpy(), task.state, atol=1e-12)
            assert rewards[i].item() == pytest.approx(reward, rel=1e-12)


def test_mountain_car_is_gymnasium_s() -> None:
    rng = np.random.default_rng(0)
    env, original = MountainCarVectorEnv(64, dtype=torch.float64), gym.make("MountainCarContinuous-v0")
    task: Any = original.unwrapped
    assert env.single_action_space == original.action_space
    assert env.single_observation_space == original.observation_space
    assert env.max_episode_steps == original.spec.max_episode_steps  # type: ignore[union-attr]
    ends = 0
    env.reset(seed=0)
    for _ in range(20):
        env.states = torch.from_numpy(rng.uniform([-1.2, -0.07], [0.5, 0.07], (64, 2)))
        env.states[:8] = torch.tensor([-1.2, -0.05])  # against the wall
        before, actions = env.states.clone(), rng.uniform(-1, 1, (64, 1))
        _, rewards, terminated, _, infos = env.step(actions)
        for i in range(64):
            task.state = before[i].numpy()
            observation, reward, ended, _, _ = task.step(actions[i])
            np.testing.assert_allclose(infos["final_obs"][i].numpy(), observation, atol=1e-6)
            assert rewards[i].item() == pytest.approx(reward, rel=1e-9)
            assert bool(terminated[i]) == ended
            ends += ended
    assert ends > 20


def test_cart_pole_has_gymnasium_s_dynamics() -> None:
    rng = np.random.default_rng(0)
    env = CartPoleSwingUpVectorEnv(64, dtype=torch.float64)
    task: Any = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for direction in (-1.0, 1.0):
        env.states = torch.from_numpy(rng.uniform(-1, 1, (64, 4)) * [2.3, 3.0, 4.0, 5.0])
        before = env.states.clone()
        _, rewards, terminated, _, infos = env.step(torch.full((64, 1), direction))
        for i in range(64):
            task.reset()
            task.state = before[i].numpy()
            task.step(int(direction > 0))
            x, x_speed, angle, angle_speed = task.state
            expected = [x, x_speed, math.cos(angle), math.sin(angle), angle_speed]
            np.testing.assert_allclose(infos["final_obs"][i].numpy(), expected, atol=1e-12)
            assert rewards[i].item() == pytest.approx((1 + math.cos(angle)) / 2, abs=1e-12)
            assert bool(terminated[i]) == (abs(x) > 2.4)


@pytest.mark.parametrize("kind", KINDS)
def test_first_states_are_within_their_limits_and_observations_in_their_space(kind: type[TorchVectorEnv]) -> None:
    env = kind(500)
    observations, _ = env.reset(seed=0)
    low, high = (torch.tensor(x) for x in env.first_states)  # type: ignore[attr-defined]
    assert ((env.states >= low) & (env.states <= high)).all()
    assert (env.states[:, low < high].std(0) > 0.2 * (high - low)[low < high]).all()
    for _ in range(50):
        actions = 2 * torch.rand(500, 1) - 1
        observations, _, _, _, _ = env.step(actions * env.single_action_space.high[0])
        assert all(env.single_observation_space.contains(o) for o in observations[:20].numpy())


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "CartPoleSwingUp-v0"])
def test_they_are_registered(name: str) -> None:
    env = gym.make_vec(f"balrl/{name}", num_envs=5)
    assert isinstance(env, balrl.envs.TorchVectorEnv)
    assert env.reset(seed=0)[0].shape == (5, *env.single_observation_space.shape)  # type: ignore[misc]
    one = gym.make(f"balrl/{name}")
    assert gym.envs.registration.EnvSpec.from_json(one.spec.to_json()) == one.spec  # type: ignore[union-attr]
    observation, _ = one.reset(seed=0)
    assert one.observation_space.contains(observation)
    assert len(one.step(one.action_space.sample())) == 5
