from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from balrl.envs.gymnasium_env import ResumableSyncVectorEnv
from balrl.run.registry import make_env

TASKS = ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "AdroitHandDoor-v1"]


@pytest.mark.parametrize("env_id", TASKS)
def test_a_restored_environment_goes_on_bit_for_bit(env_id: str) -> None:
    """Physics with its warm start, time limit, generator, and what the task moved in the model."""
    if "Adroit" in env_id:
        pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")
    rng = np.random.default_rng(0)
    one = make_env(env_id, 2)
    assert isinstance(one, ResumableSyncVectorEnv)
    low, high = one.single_action_space.low, one.single_action_space.high
    actions = rng.uniform(low, high, (70, 2, len(low))).astype(np.float32)
    one.reset(seed=5)
    for a in actions[:25]:
        one.step(a)
    state = {key: value.clone() for key, value in one.state_dict().items()}
    expected = [one.step(a)[:4] for a in actions[25:]]

    other = make_env(env_id, 2)
    other.reset(seed=99)
    other.load_state_dict(state)
    for a, wanted in zip(actions[25:], expected, strict=True):
        for got, want in zip(other.step(a)[:4], wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_time_limit_counter_is_part_of_the_state() -> None:
    one = make_env("HalfCheetah-v5", 1, kwargs={"max_episode_steps": 30})
    one.reset(seed=0)
    action = np.zeros((1, 6), np.float32)
    for _ in range(20):
        one.step(action)
    other = make_env("HalfCheetah-v5", 1, kwargs={"max_episode_steps": 30})
    other.reset(seed=1)
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    assert [bool(other.step(action)[3][0]) for _ in range(10)] == [False] * 9 + [True]


def test_other_physics_is_left_alone() -> None:
    env = make_env("Pendulum-v1", 2)
    assert not hasattr(env, "state_dict")
    assert env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
