"""Velocities are hidden, and nothing else is changed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl.envs
from balrl.envs import PendulumMaskedVectorEnv, PendulumVectorEnv
from balrl.envs.gymnasium_env import ResumableSyncVectorEnv
from balrl.errors import UserError
from balrl.run.registry import make_env, step_limit


def test_the_pendulum_shows_its_angle_alone() -> None:
    masked, full = (kind(8) for kind in (PendulumMaskedVectorEnv, PendulumVectorEnv))
    seen, everything = (env.reset(seed=3)[0] for env in (masked, full))
    for _ in range(5):
        assert torch.equal(seen, everything[:, :2])
        actions = torch.randn(8, 1)
        (seen, rewards, *_, infos), (everything, wanted, *_) = masked.step(actions), full.step(actions)
        assert torch.equal(rewards, wanted)
        assert infos["final_obs"].shape == (8, 2)
    assert masked.single_observation_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(UserError, match="do not show its speed"):
        masked.states_of(seen)
    assert "balrl/PendulumMasked-v0" in balrl.envs.registered()
    assert gym.make("balrl/PendulumMasked-v0").reset(seed=0)[0].shape == (2,)


@pytest.mark.parametrize(("name", "original", "positions"), [
    ("HopperMasked-v0", "Hopper-v5", 5),
    ("HalfCheetahMasked-v0", "HalfCheetah-v5", 8),
])  # fmt: skip
def test_gymnasium_s_tasks_show_positions_alone(name: str, original: str, positions: int) -> None:
    masked, full = gym.make(name), gym.make(original)
    seen, everything = masked.reset(seed=5)[0], full.reset(seed=5)[0]
    assert full.unwrapped.observation_structure["qpos"] == positions
    rng = np.random.default_rng(0)
    for _ in range(5):
        np.testing.assert_array_equal(seen, everything[:positions])
        action = rng.uniform(-1, 1, masked.action_space.shape).astype(np.float32)
        (seen, reward, *_), (everything, wanted, *_) = masked.step(action), full.step(action)
        assert reward == wanted
    assert masked.observation_space.shape == (positions,)
    worlds = make_env(name, 2)
    assert step_limit(worlds) == 1_000
    assert isinstance(worlds, ResumableSyncVectorEnv)
