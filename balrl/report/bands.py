"""Bootstrap bands over seeds, of many numbers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SAMPLES = 1_000


class Band(NamedTuple):
    """A statistic over seeds and its 95 % stratified percentile-bootstrap interval, each ``[points]``."""

    value: Array
    low: Array
    high: Array


def iqm_band(scores: Sequence[Any], seed: int = 0) -> Band:
    """Return the interquartile mean at every point of curves.

    Args:
        scores: a curve ``[points]`` for every seed, for every task: ``[tasks][seeds, points]``; seeds are resampled
            with replacement within each task, all points of a curve together.
        seed: of the resampling.
    """
    tasks = [np.asarray(task, np.float64) for task in scores]
    pooled = np.concatenate(tasks)
    return _band(_trimmed_mean(pooled[None])[0], _trimmed_mean(_resampled(tasks, seed)))


def performance_profile(scores: Sequence[Any], thresholds: Array, seed: int = 0) -> Band:
    """Return the share of runs that score above each threshold τ (Agarwal et al., arXiv 2108.13264).

    Args:
        scores: ``[tasks][seeds]``.
        thresholds: τ ``[points]``.
        seed: of the resampling.
    """
    tasks = [(np.asarray(task, np.float64)[:, None] > thresholds).astype(np.float64) for task in scores]
    return _band(np.concatenate(tasks).mean(0), _resampled(tasks, seed).mean(1))


def _resampled(tasks: Sequence[Array], seed: int) -> Array:
    """Return ``[SAMPLES, runs, points]``."""
    rng = np.random.default_rng(seed)
    return np.concatenate([task[rng.integers(len(task), size=(SAMPLES, len(task)))] for task in tasks], 1)


def _trimmed_mean(values: Array) -> Array:
    """Return the mean of the middle half over the second axis, as `balrl.evaluation.iqm` takes it."""
    count = values.shape[1]
    cut = int(0.25 * count)
    ordered: Array = np.sort(values, axis=1)[:, cut : count - cut].mean(1)
    return ordered


def _band(value: Array, samples: Array) -> Band:
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    return Band(value, low, high)
