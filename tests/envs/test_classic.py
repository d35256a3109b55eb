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


def beside(kind: Any, original_id: str) -> tuple[TorchVectorEnv, Any]:
    """Return 64 worlds in float64 and Gymnasium's one, whose spaces and time limit are the same."""
    env, original = kind(64, dtype=torch.float64), gym.make(original_id)
    assert env.single_action_space == original.action_space
    assert env.single_observation_space == original.observation_space
    assert env.max_episode_steps == original.spec.max_episode_steps  # type: ignore[union-attr]
    env.reset(seed=0)
    return env, original.unwrapped


def test_pendulum_is_gymnasium_s() -> None:
    rng = np.random.default_rng(0)
    env, task = beside(PendulumVectorEnv, "Pendulum-v1")
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
    env, task = beside(MountainCarVectorEnv, "MountainCarContinuous-v0")
    ends = 0
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


def dark(picture: Any) -> Any:
    """Return the mean column and row of what is drawn in red."""
    red = np.argwhere((picture[..., 0].astype(int) - picture[..., 1]) > 60).mean(0)
    return red[::-1] / 128 - 1


@pytest.mark.parametrize(
    ("kind", "state", "place"),
    [
        (PendulumVectorEnv, [0.0, 0.0], (0.0, -0.4)),  # up
        (PendulumVectorEnv, [math.pi / 2, 0.0], (-0.4, 0.0)),  # Gymnasium turns to the left
        (MountainCarVectorEnv, [-math.pi / 6, 0.0], ((0.3 - math.pi / 6) / 0.9, 0.43)),  # the valley's bottom
        (CartPoleSwingUpVectorEnv, [1.3, 0.0, 0.0, 0.0], (0.5, -0.25)),
        (CartPoleSwingUpVectorEnv, [0.0, 0.0, math.pi / 2, 0.0], (0.25, 0.0)),
    ],
)
def test_pictures_show_the_state(kind: Any, state: list[float], place: tuple[float, float]) -> None:
    env = kind(2, render_mode="rgb_array")
    np.testing.assert_allclose(dark(env.draw(torch.tensor(state))), place, atol=0.05)
    env.reset(seed=0)
    assert (env.render()[0] == env.draw(env.states[0])).all()
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        kind(2, render_mode="human")


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "CartPoleSwingUp-v0"])
def test_they_are_registered(name: str) -> None:
    env = gym.make_vec(f"balrl/{name}", num_envs=5)
    assert isinstance(env, balrl.envs.TorchVectorEnv)
    assert env.reset(seed=0)[0].shape == (5, *env.single_observation_space.shape)  # type: ignore[misc]
    assert gym.make_vec(f"balrl/{name}", num_envs=2, render_mode="rgb_array").render_mode == "rgb_array"
    one = gym.make(f"balrl/{name}")
    assert gym.envs.registration.EnvSpec.from_json(one.spec.to_json()) == one.spec  # type: ignore[union-attr]
    observation, _ = one.reset(seed=0)
    assert one.observation_space.contains(observation)
    assert len(one.step(one.action_space.sample())) == 5
