"""Pairs that a teacher is asked about."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.data.dataset import Dataset
from balrl.errors import UserError
from balrl.rewards import RewardEnsemble, Teacher
from balrl.rewards.ensemble_training import predicted_preferences
from balrl.rewards.queries import ask, cut, segment_starts
from balrl.spaces import SpaceAdapter

SPACES = SpaceAdapter(gym.spaces.Box(-9, 9, (2,)), gym.spaces.Box(-2.0, 2.0, (1,)))


def dataset(lengths: tuple[int, ...] = (30, 4, 50)) -> Dataset:
    """The first observation is the row, the second the episode; the reward is the action."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    observations = np.stack([np.arange(rows), np.repeat(np.arange(len(lengths)), lengths)], -1).astype(np.float32)
    actions = rng.uniform(-2, 2, (rows, 1)).astype(np.float32)
    ends = np.zeros(rows, bool)
    ends[np.cumsum(lengths) - 1] = True
    return Dataset(observations, actions, actions[:, 0], observations, ends, np.zeros(rows, bool), env_id="Toy-v0")


def test_segments_never_cross_episodes() -> None:
    data = dataset()
    starts = segment_starts(data, 5)
    assert starts.tolist() == [*range(26), *range(34, 80)]
    segments = cut(data, SPACES, starts, 5)
    assert (segments.observations[..., 1].std(-1) == 0).all()
    assert torch.equal(segments.observations[:, :, 0], (starts[:, None] + torch.arange(5)).float())
    torch.testing.assert_close(segments.actions[..., 0], segments.rewards / 2)  # the task's bounds are ±2
    with pytest.raises(UserError, match="has 51 steps, the longest has 50"):
        segment_starts(data, 51)


def test_a_teacher_labels_what_is_shown() -> None:
    made = ask(dataset(), SPACES, Teacher(), pairs=200, steps=5, seed=3)
    assert (len(made), made.steps, made.env_id) == (200, 5, "Toy-v0")
    sums = made.actions.sum((2, 3))
    assert torch.equal(made.labels, (sums[:, 1] > sums[:, 0]).float())
    again = ask(dataset(), SPACES, Teacher(), pairs=200, steps=5, seed=3)
    assert torch.equal(again.observations, made.observations)
    assert made.notes["teacher"]["flip"] == 0


def test_pairs_that_are_skipped_are_replaced() -> None:
    data = dataset((60, 60))
    data.rewards[:] += 1.0
    made = ask(data, SPACES, Teacher(skip=1.0), pairs=50, steps=5)
    threshold = data.episode_returns.mean() * 5 / 60
    sums = (2 * made.actions + 1).sum((2, 3))
    assert len(made) == 50
    assert (sums.amax(1) > threshold).all()
    with pytest.raises(UserError, match="lower its threshold"):
        ask(data, SPACES, Teacher(skip=1000.0), pairs=50, steps=5)


@pytest.mark.parametrize("strategy", ["disagreement", "entropy"])
def test_a_strategy_asks_where_its_score_is_larger(strategy: str) -> None:
    ensemble = RewardEnsemble(3, 4, (16,))
    ensemble.inputs.fit(torch.tensor([40.0, 1.0, 0.0]), torch.tensor([25.0, 1.0, 0.5]))

    def mean_score(name: str) -> float:
        made = ask(dataset(), SPACES, Teacher(), 60, 3, strategy=name, ensemble=ensemble)
        found = predicted_preferences(ensemble, made.inputs)
        if strategy == "disagreement":
            return found.std(0, correction=0).mean().item()
        return -(found * found.log() + (1 - found) * (1 - found).log()).mean().item()

    assert mean_score(strategy) > 1.2 * mean_score("uniform")


def test_mistakes_are_explained() -> None:
    with pytest.raises(UserError, match="did you mean 'entropy'"):
        ask(dataset(), SPACES, Teacher(), 5, 3, strategy="entrop")
    with pytest.raises(UserError, match="train one on uniform pairs first"):
        ask(dataset(), SPACES, Teacher(), 5, 3, strategy="entropy")
    with pytest.raises(UserError, match="expected at least 1"):
        ask(dataset(), SPACES, Teacher(), 0, 3)


def test_one_pair_of_single_steps_is_a_question() -> None:
    made = ask(dataset(), SPACES, Teacher(), pairs=1, steps=1)
    assert made.observations.shape == (1, 2, 1, 2)
    assert torch.equal(made.observations, ask(dataset(), SPACES, Teacher(), 1, 1, seed=0).observations)
