"""Under which preference an episode was good."""

from __future__ import annotations

import numpy as np

from balrl.data.behaviour import behaviour_preferences
from balrl.data.dataset import Dataset
from tests.conftest import make_dataset


def test_an_episode_gets_the_preference_that_it_ranks_highest_under() -> None:
    """Specialists get their corner's side, the all-rounder the middle, and who is worst everywhere the mean of all."""
    plain = make_dataset((1, 1, 1, 1), (True,) * 4)
    returns = np.array([[10, 0], [0, 10], [6, 6], [-1, -1]], np.float32)
    data = Dataset(**{**vars(plain), "rewards": returns})
    found = behaviour_preferences(data)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert found[0, 0] > 0.7
    assert found[1, 1] > 0.7
    np.testing.assert_allclose(found[2:], 0.5, atol=0.02)


def test_all_rows_of_an_episode_have_its_preference() -> None:
    plain = make_dataset((3, 2, 4), (True, False, False))
    rewards = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    data = Dataset(**{**vars(plain), "rewards": rewards})
    found = behaviour_preferences(data)
    assert found.shape == (9, 3)
    for rows in data.episode_slices:
        assert (found[rows] == found[rows][0]).all()
