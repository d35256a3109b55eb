"""Members on a frozen encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balrl.config import FitConfig
from balrl.errors import UserError
from balrl.rewards import RewardEnsemble, fit_ensemble
from balrl.rewards.language import HeadsReward
from tests.rewards.language.small import Counts, some_pairs

SMALL = FitConfig(epochs=20, learning_rate=3e-3)


def test_features_are_both_embeddings_and_the_length() -> None:
    reward = HeadsReward(Counts(), 2, (8,), sees_length=True)
    found = reward.features(["good", "good"], ["bad bad", "the"])
    expected = torch.tensor([[1.0, 0, 0, 0, 2, 0, 7], [1.0, 0, 0, 0, 0, 1, 3]])
    expected[:, -1] = expected[:, -1].log1p()
    torch.testing.assert_close(found, expected)
    encoder = Counts()
    HeadsReward(encoder, 1, (8,)).features(["a"] * 100, ["b", "c"] * 50)
    assert encoder.seen == 3


def test_it_is_the_ensemble_of_everything_else() -> None:
    """Scores are those of a `RewardEnsemble` that was trained on the same features by itself."""
    pairs = some_pairs()
    reward = HeadsReward(Counts(), 3, (8,), seed=4)
    found = reward.fit(pairs, SMALL, seed=2)
    sides = [reward.features(pairs.prompts, side) for side in (pairs.first, pairs.second)]
    own = RewardEnsemble(6, 3, (8,), seed=4)
    expected = fit_ensemble(own, reward.preferences(pairs), SMALL, seed=2)
    assert found["accuracy"] == expected["accuracy"]
    assert found["loss"] == expected["loss"]
    torch.testing.assert_close(reward.scores(pairs.prompts, pairs.first), own(sides[0]).detach())
    both = torch.cat([reward.scores(pairs.prompts, side) for side in (pairs.first, pairs.second)], 1)
    torch.testing.assert_close(both.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.std(1, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_it_learns_what_is_good_for_prompts_it_has_not_seen() -> None:
    reward = HeadsReward(Counts(), 3, (16,))
    reward.fit(some_pairs(200), FitConfig(epochs=60, learning_rate=3e-3))
    assert reward.quality(some_pairs(200, seed=1))["ensemble_accuracy"] > 0.95
    worse, better = reward.scores(["what now", "what now"], ["awful", "great"]).unbind(1)
    assert bool((better > worse + 1).all())
    assert float(better.abs().max()) < 10  # an always equal prompt scales nothing by rounding


def test_files_name_the_encoder(tmp_path: Path) -> None:
    reward = HeadsReward(Counts(), 2, (8,), sees_length=True)
    reward.fit(some_pairs(), SMALL)
    file = reward.save(tmp_path / "r.safetensors")
    found = HeadsReward.load(file, Counts())
    assert found.sees_length
    assert torch.equal(found.scores(["say"], ["good"]), reward.scores(["say"], ["good"]))
    with pytest.raises(UserError, match="no encoder 'counts'"):
        HeadsReward.load(file)
    other = Counts()
    other.name = "others"
    with pytest.raises(UserError, match="was trained on 'counts', not on 'others'"):
        HeadsReward.load(file, other)
    with pytest.raises(UserError, match="the ensemble takes 5 numbers, 'counts' makes 6 of a text"):
        HeadsReward(Counts(), ensemble=RewardEnsemble(5))
