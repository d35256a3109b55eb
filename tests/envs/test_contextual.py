from __future__ import annotations

import gymnasium as gym
import pytest
import torch

import balrl.envs
from balrl.envs import ContextualVectorEnv


def test_an_episode_is_one_step_and_its_reward_the_fixed_network_s() -> None:
    env = gym.make_vec("balrl/Contextual-v0", num_envs=5)
    contexts, _ = env.reset(seed=3)
    actions = torch.linspace(-0.2, 0.2, 30).reshape(5, 6)
    following, rewards, terminated, _, infos = env.step(actions)
    assert terminated.all()
    assert torch.equal(infos["final_obs"], contexts)
    assert not torch.equal(following, contexts)
    assert torch.equal(rewards, ContextualVectorEnv().reward(contexts, actions))


def test_rewards_are_standard_under_the_reference_policy_in_every_shape_of_the_task() -> None:
    for settings in ({}, {"context_dim": 2, "action_dim": 3}, {"depth": 0.0}):
        env = ContextualVectorEnv(50_000, **settings)
        contexts, _ = env.reset(seed=1)
        rewards = env.reward(contexts, 0.3 * torch.randn(50_000, env.single_action_space.shape[0]))
        assert rewards.mean().abs() < 0.03
        assert rewards.std() == pytest.approx(1, abs=0.03)


def test_beyond_the_rim_reward_is_lost() -> None:
    flat, rimmed = ContextualVectorEnv(depth=0.0), ContextualVectorEnv(depth=2.0)
    contexts, directions = torch.zeros(200, 4), torch.nn.functional.normalize(torch.randn(200, 6), dim=-1)
    for radius, lost in ((0.5, 0.0), (0.9, 0.0), (1.4, 2 * (1 - torch.exp(torch.tensor(-1.0)))), (9.0, 2.0)):
        actions = radius * directions
        found = flat._raw(contexts, actions) - rimmed._raw(contexts, actions)
        torch.testing.assert_close(found, torch.full((200,), float(lost)), rtol=1e-4, atol=1e-5)


def test_it_can_be_drawn_and_made_alone() -> None:
    env = gym.make("balrl/Contextual-v0", render_mode="rgb_array")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render().shape == (256, 256, 3)
    assert "balrl/Contextual-v0" in balrl.envs.registered()
