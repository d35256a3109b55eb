"""The trading task's prices, rewards and observations, by hand."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch

import balrl.envs
from balrl.envs import TradingVectorEnv


def test_steps_by_hand() -> None:
    env = TradingVectorEnv(200_000, dtype=torch.float64, window=2)
    seen, _ = env.reset(seed=0)
    assert seen.shape == (200_000, 3)
    assert not seen.any()
    assert env.states[:, 1].mean().abs() < 0.01
    env.states = torch.tensor([3.0, 1.0, -0.5, 0.2, 0.7], dtype=torch.float64).repeat(200_000, 1)
    _, rewards, terminated, truncated, infos = env.step(torch.full((200_000, 1), 0.5))
    price, regime, position, before, returns = env.states.unbind(-1)
    torch.testing.assert_close(price, 3 + returns)
    assert returns.mean().item() == pytest.approx(0.1 * (10 - 3), abs=0.01)
    assert returns.std().item() == pytest.approx(1, abs=0.01)
    assert (regime < 0).double().mean().item() == pytest.approx(0.02, abs=0.002)
    torch.testing.assert_close(rewards, 0.5 * returns - 0.1 * 1.0)
    assert (position == 0.5).all()
    assert (before == 0.7).all()
    torch.testing.assert_close(infos["final_obs"], torch.stack([before, returns, position], -1))
    assert not terminated.any()
    assert not truncated.any()


def test_an_episode_has_250_steps_and_begins_flat() -> None:
    env = TradingVectorEnv(2)
    env.reset(seed=1)
    for t in range(250):
        seen, _, terminated, truncated, infos = env.step(torch.ones(2, 1))
        assert truncated.all() == (t == 249)
    assert not terminated.any()
    assert not seen.any()
    assert infos["final_obs"][:, -1].tolist() == [1, 1]
    assert env.reference_returns == (0.0, 71.5)
    assert not hasattr(TradingVectorEnv(1, cost=0.5), "reference_returns")


def test_it_can_be_drawn_and_made_alone() -> None:
    env = gym.make("balrl/Trading-v0", render_mode="rgb_array")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render().shape == (256, 256, 3)
    assert "balrl/Trading-v0" in balrl.envs.registered()
    for settings, said in (({"window": 0}, "window is 0"), ({"cost": -1.0}, "cost is -1")):
        with pytest.raises(ValueError, match=said):
            TradingVectorEnv(1, **settings)
