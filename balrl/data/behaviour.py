"""Which preference over several rewards a logged episode was good for."""

from __future__ import annotations

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.front import simplex_grid

GRID = 100
"""Preferences that are tried, at least."""


def behaviour_preferences(dataset: Dataset) -> Array:
    """Return for every row the preference under which its episode ranks highest in the data, ``[N, m]`` float32.

    Of the utilities ``wᵀG_e`` of all episodes e, ranked for every w of a grid on the simplex; where an episode ranks
    equally high under several, their mean (after arXiv 2401.02244).
    """
    grid = simplex_grid(dataset.reward_dim, GRID)
    utilities = dataset.episode_returns @ grid.T
    ranks = np.stack([np.searchsorted(np.sort(u), u, side="right") for u in utilities.T], 1)
    is_best = ranks == ranks.max(1, keepdims=True)
    chosen = is_best @ grid / is_best.sum(1, keepdims=True)
    return np.repeat(chosen.astype(np.float32), dataset.episode_lengths, axis=0)
