"""A learned reward in place of the environment's."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from balrl.errors import UserError
from balrl.rewards import RewardEnsemble, conservative
from balrl.rewards.reward import LearnedReward
from tests.rewards.test_queries import SPACES, dataset


def ensemble(seed: int = 0) -> RewardEnsemble:
    made = RewardEnsemble(3, 4, (16,), seed=seed)
    made.inputs.fit(torch.tensor([40.0, 1.0, 0.0]), torch.tensor([25.0, 1.0, 0.5]))
    made.normalize(torch.randn(50, 3))
    return made


def test_rewards_are_the_objective_of_the_scores() -> None:
    model, observations, actions = ensemble(), torch.randn(6, 2), torch.rand(6, 1)
    scores = model(torch.cat([observations, actions], -1))
    for objective, coefficient in (("uwo", 0.3), ("wco", None), ("single", 2)):
        reward = LearnedReward(model, objective, coefficient)
        torch.testing.assert_close(reward(observations, actions), conservative(scores, objective, coefficient))


def test_relabelling_is_recorded_and_doing_it_again_changes_nothing() -> None:
    data, reward = dataset(), LearnedReward(ensemble(), "wco")
    once = reward.relabel(data, SPACES)
    twice = reward.relabel(once, SPACES)
    assert once.rewards_from == twice.rewards_from == reward.describe()
    assert reward.describe().startswith("wco(0) of 4 members ")
    np.testing.assert_array_equal(once.rewards, twice.rewards)
    wanted = reward(torch.from_numpy(data.observations), torch.from_numpy(data.actions / 2))
    np.testing.assert_allclose(once.rewards, wanted.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(once.observations, data.observations)
    other = LearnedReward(ensemble(seed=1), "mean").relabel(once, SPACES)
    assert other.rewards_from != once.rewards_from
    assert not np.allclose(other.rewards, once.rewards)


def test_a_shift_for_survival_leaves_almost_all_logged_rewards_above_0() -> None:
    data, reward = dataset(), LearnedReward(ensemble(), "uwo")
    shifted = reward.shift_for_survival(data, SPACES)
    before, after = reward.relabel(data, SPACES).rewards, shifted.relabel(data, SPACES).rewards
    np.testing.assert_allclose(after, before + shifted.shift, rtol=1e-5, atol=1e-5)
    assert 0.97 <= (after > 0).mean() < 1
    assert f" {shifted.shift:+g} of " in shifted.describe()
    assert shifted.shift_for_survival(data, SPACES).shift == shifted.shift


def test_mistakes_are_explained() -> None:
    broken = ensemble()
    with torch.no_grad():
        broken.head.weight[2] = math.nan
    with pytest.raises(UserError, match="member 2 of 4"):
        LearnedReward(broken).relabel(dataset(), SPACES)
    with pytest.raises(UserError, match="do not belong together"):
        LearnedReward(RewardEnsemble(7, 2, (8,))).relabel(dataset(), SPACES)
    with pytest.raises(UserError, match="did you mean 'wco'"):
        LearnedReward(ensemble(), "wc")


def test_two_rewards_are_told_apart_by_their_ensembles() -> None:
    one = LearnedReward(ensemble(), "wco")
    other = copy.deepcopy(one)
    assert one.describe() == other.describe()
    other.ensemble.head.bias.data[1] += 1
    assert one.describe() != other.describe()
