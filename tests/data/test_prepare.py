from __future__ import annotations

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.config import DataConfig
from balrl.data.prepare import (
    RewardTransform,
    check_spaces,
    observation_statistics,
    reward_transform,
    scale_actions,
    to_replay,
)
from balrl.errors import UserError
from balrl.returns import MonteCarlo
from balrl.spaces import SpaceAdapter
from tests.conftest import make_dataset

SPACES = SpaceAdapter(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-2, 2, (1,)))


def test_reward_transform() -> None:
    data = make_dataset()  # returns 6, 9 and 30
    assert reward_transform(DataConfig(reward_scale=2, reward_bias=-1), data) == RewardTransform(2, -1)
    normalised = reward_transform(DataConfig(reward_normalization="return-range", reward_scale=0.5), data)
    assert normalised.scale == pytest.approx(0.5 * 1000 / 24)
    flat = replace(data, rewards=np.zeros(9, np.float32))
    with pytest.raises(UserError, match="divide by zero"):
        reward_transform(DataConfig(reward_normalization="return-range"), flat)
    with pytest.raises(UserError, match="no dataset"):
        reward_transform(DataConfig(reward_normalization="return-range"), None)


def test_a_truncated_row_bootstraps_from_its_true_successor() -> None:
    """The flag that masks the bootstrap is set by termination alone."""
    data = make_dataset()
    batch = to_replay(data, RewardTransform(3, 1)).gather(torch.arange(9))
    assert batch.terminated.tolist() == [False, False, True, *[False] * 6]
    assert batch.next_observations[4].tolist() == [1, 2]
    assert batch.rewards.tolist() == [3 * r + 1 for r in range(1, 10)]


def test_optional_fields() -> None:
    data = make_dataset()
    replay = to_replay(data, RewardTransform(2, 0), ("mc_returns", "next_actions"), monte_carlo=MonteCarlo(0.5))
    batch = replay.gather(torch.arange(9))
    np.testing.assert_allclose(batch.mc_returns, 2 * data.mc_returns(MonteCarlo(0.5)), rtol=1e-6)
    np.testing.assert_array_equal(batch.next_actions, data.next_actions())


def test_actions_are_scaled_and_clipped_with_one_warning_that_counts() -> None:
    data = make_dataset()
    data = replace(data, actions=np.array([[-2], [0], [2], [3], [-5], [1], [1], [1], [1]], np.float32))
    with pytest.warns(UserWarning, match=r"2 of 9 action values \(22.2%\).*up to 2.5 of the bound.*clipped") as record:
        scaled = scale_actions(data, SPACES)
    assert len(record) == 1
    assert scaled.actions[:, 0].tolist() == [-1, 0, 1, 1, -1, 0.5, 0.5, 0.5, 0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale_actions(make_dataset(), SPACES)


def test_observation_statistics() -> None:
    mean, std = observation_statistics(make_dataset(), 1e-3)
    np.testing.assert_allclose(mean, make_dataset().observations.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, make_dataset().observations.std(0) + 1e-3, rtol=1e-6)


def test_another_task_of_the_same_shape_is_warned_of() -> None:
    data = replace(make_dataset(), env_id="Walker2d-v5")
    with pytest.warns(UserWarning, match="names Walker2d-v5 as its task, the run's is HalfCheetah-v5"):
        check_spaces(data, SPACES, "HalfCheetah-v5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_spaces(data, SPACES, "balrl/Walker2d-v4")


def test_the_wrong_environment_names_both_shapes() -> None:
    other = SpaceAdapter(gym.spaces.Box(-1, 1, (11,)), gym.spaces.Box(-1, 1, (3,)))
    with pytest.raises(UserError, match="2 observations and 1 actions, environment Hopper-v5 has 11 and 3"):
        check_spaces(make_dataset(), other, "Hopper-v5")
