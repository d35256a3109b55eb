"""A learned reward per dimension."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.config import RewardConfig
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.replay import ReplayBuffer
from balrl.rewards import LearnedReward, RewardEnsemble
from balrl.rewards.learner import RewardLearner
from balrl.rewards.recent import RecentInteraction
from balrl.rewards.several import LearnedRewards, RewardLearners, make_learners
from balrl.rollout import Step
from balrl.spaces import SpaceAdapter
from tests.conftest import random_batch

SPACES = SpaceAdapter(gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,)))


def logged(rows: int = 400) -> Dataset:
    """Rewards that are the first observation, and minus the squared first action."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32)
    rewards = np.stack([observations[:, 0], -np.square(actions[:, 0])], -1)
    ends = np.arange(rows) % 20 == 19
    return Dataset(observations, actions, rewards, observations, np.zeros(rows, bool), ends, "two")


def learners(recent: RecentInteraction | None = None, **config: object) -> RewardLearners:
    settings = {"pairs": 150, "steps": 5, "members": 2, "hidden": (32,), "epochs": 40, "learning_rate": 3e-3, **config}
    made = make_learners(
        RewardConfig(**settings), logged(), SPACES, "two", 0, torch.device("cpu"), recent, objectives=2
    )
    assert isinstance(made, RewardLearners)
    return made


def test_each_dimension_is_made_conservative_by_itself() -> None:
    """Before any weights: the worst member differs from one dimension to the other."""
    parts = [LearnedReward(RewardEnsemble(5, 3, (4,), seed=seed), "wco") for seed in (1, 2)]
    both, b = LearnedRewards(parts), random_batch(7)
    scores = both.scores(b.observations, b.actions)
    assert scores.shape == (3, 7, 2)
    found = both(b.observations, b.actions)
    torch.testing.assert_close(found, scores.amin(0))
    torch.testing.assert_close(found[:, 1], parts[1](b.observations, b.actions))
    assert both.describe() == "; ".join(part.describe() for part in parts)


def test_every_dimension_learns_from_its_own_teacher() -> None:
    made, data = learners(), logged()
    labelled = made.reward.relabel(data, SPACES)
    assert labelled.rewards.shape == (400, 2)
    for index in range(2):
        assert np.corrcoef(labelled.rewards[:, index], data.rewards[:, index])[0, 1] > 0.7
    assert "wco" not in str(labelled.rewards_from)
    assert str(labelled.rewards_from).count("members") == 2


def test_rounds_ask_each_dimension_and_relabel_what_is_stored() -> None:
    recent = RecentInteraction(40, 4, SPACES, reward_dim=2)
    made = learners(recent, pairs=0, online_every=10, online_pairs=20, epochs=2)
    for _ in range(30):
        batch = random_batch(4, reward_dim=2)
        none = torch.zeros(4, dtype=torch.bool)
        recent.add(Step(batch, None, none, batch.rewards, none.long(), None, None))
    assert made.is_due(9, 10)
    found = made.learn()
    assert (found["reward/rounds_1"], found["reward/rounds_2"], made.rounds) == (1.0, 1.0, 1)
    replay = ReplayBuffer(10, 3, 2, reward_dim=2)
    batch = random_batch(6, reward_dim=2)
    replay.add(batch)
    made.relabel(replay, RewardTransform(2.0, 1.0))
    expected = 2 * made.reward(batch.observations, batch.actions) + 1
    torch.testing.assert_close(replay.transitions(torch.arange(6)).rewards, expected)
    other = learners(RecentInteraction(40, 4, SPACES, reward_dim=2), pairs=0, online_every=10, epochs=2)
    other.load_state_dict(made.state_dict())
    assert other.reward.describe() == made.reward.describe()
    assert torch.equal(other.recent.rewards, recent.rewards)


def test_a_run_that_goes_on_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = learners(epochs=1)
    monkeypatch.setattr(RewardLearner, "fit", lambda self: pytest.fail("trained again"))
    config = RewardConfig(pairs=150, steps=5, members=2, hidden=(32,), epochs=1)
    args = (config, None, SPACES, "two", 0, torch.device("cpu"), None, 2)
    again = make_learners(*args, stored=made.state_dict())
    expected = made.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())


def test_a_round_is_held_in_every_dimension_or_in_none() -> None:
    """The second reward is always 0: its teacher has nothing to prefer."""
    recent = RecentInteraction(40, 4, SPACES, reward_dim=2)
    made = learners(recent, pairs=0, online_every=10, online_pairs=20, epochs=1, teacher={"skip": 0.1})
    before = {key: value.clone() for key, value in made.state_dict().items() if "recording" not in key}
    for _ in range(30):
        batch = random_batch(4, reward_dim=2)
        batch = batch._replace(rewards=batch.rewards * torch.tensor([1.0, 0.0]))
        none = torch.zeros(4, dtype=torch.bool)
        recent.add(Step(batch, None, none, batch.rewards, none.long(), None, None))
    with pytest.raises(UserError):
        made.learn()
    assert made.rounds == 0
    after = made.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_one_reward_needs_no_list() -> None:
    data = logged().of_reward(0)
    made = make_learners(
        RewardConfig(pairs=10, steps=5, members=1, hidden=(4,), epochs=1),
        data,
        SPACES,
        "one",
        0,
        torch.device("cpu"),
        None,
        objectives=1,
    )
    assert not isinstance(made, RewardLearners)
    assert RewardConfig(ensemble="a").ensemble == ("a",)
    assert RewardConfig(ensemble=None).ensemble == ()


def test_data_of_one_of_several_rewards() -> None:
    data = logged()
    assert data.reward_dim == 2
    np.testing.assert_array_equal(data.of_reward(1).rewards, data.rewards[:, 1])
    weighted = data.weighted((2.0, 1.0))
    np.testing.assert_allclose(weighted.rewards, data.rewards @ [2.0, 1.0], rtol=1e-6)
    assert weighted.rewards_from == "2, 1 times its 2 rewards"
    one = replace(data, rewards=data.rewards[:, 0])
    assert one.of_reward(0) is one
    with pytest.raises(Exception, match="1 reward weights, dataset 'two' has 2 rewards"):
        data.weighted((1.0,))
