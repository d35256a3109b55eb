"""What a dataset is like, as far as it matters for what to train on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.data.prepare import observation_statistics

SAMPLED = 20_000
"""Rows that neighbours are looked for among."""
PROBED = 1_000
"""Rows whose neighbours are looked for."""
NEIGHBOURS = 30


@dataclass(frozen=True)
class Profile:
    """Numbers about a dataset.

    Attributes:
        transitions, episodes: how many.
        low: the 10 % quantile of the episodes' returns.
        best: mean return of the best tenth of the episodes.
        common_reward: share of the steps that have the most common reward; 1 in a task that never pays.
        paying: share of the episodes with any reward above the most common one.
        scales: largest over smallest standard deviation of the observations' dimensions, constant ones left out.
        disagreement: mean distance between the actions in a state and in its nearest state of another episode, over
            that of random pairs; 0 for data of one deterministic policy, 1 where actions do not depend on the state.
            None where episodes have no neighbours.
    """

    transitions: int
    episodes: int
    low: float
    best: float
    common_reward: float
    paying: float
    scales: float
    disagreement: float | None

    @property
    def is_sparse(self) -> bool:
        """Whether nearly all steps have one and the same reward, and some episodes are paid more."""
        return self.common_reward >= 0.9 and self.paying > 0

    @property
    def is_narrow(self) -> bool:
        """Whether nine of ten episodes return within a tenth of the best, and their actions agree."""
        agree = self.disagreement is not None and self.disagreement < 0.8
        alike = self.best - self.low <= 0.1 * abs(self.best)
        return self.episodes >= 10 and agree and alike and self.common_reward < 1

    @property
    def is_small(self) -> bool:
        """Whether it is a collection of demonstrations rather than a log."""
        return self.transitions < 20_000 and self.episodes < 100


def profile(dataset: Dataset, seed: int = 0) -> Profile:
    """Return what a dataset is like; neighbours are looked for in a sample of it.

    Args:
        seed: of the sample.
    """
    returns = np.sort(dataset.episode_returns)
    rewards = np.asarray(dataset.rewards, np.float64)
    grain = max(1e-6 * float(np.ptp(rewards)), np.finfo(np.float64).tiny)  # smaller differences are rounding
    values, counts = np.unique(np.round((rewards - rewards.min()) / grain), return_counts=True)
    common = rewards.min() + grain * values[counts.argmax()]
    pays = np.logical_or.reduceat(rewards > common + grain, [s.start for s in dataset.episode_slices])
    largest = np.abs(dataset.observations).max(0)
    deviations = observation_statistics(dataset, 0.0)[1]
    moving = deviations[deviations > 1e-6 * np.maximum(largest, 1e-6)]
    return Profile(
        transitions=len(dataset),
        episodes=len(returns),
        low=float(np.quantile(returns, 0.1)),
        best=float(returns[-max(1, len(returns) // 10) :].mean()),
        common_reward=float(counts.max() / len(dataset)),
        paying=float(pays.mean()),
        scales=float(moving.max() / moving.min()) if len(moving) else 1.0,
        disagreement=_disagreement(dataset, np.random.default_rng(seed)),
    )


def _disagreement(dataset: Dataset, rng: np.random.Generator) -> float | None:
    from scipy.spatial import KDTree

    rows = np.sort(rng.permutation(len(dataset))[:SAMPLED])
    episodes = np.repeat(np.arange(len(dataset.episode_slices)), dataset.episode_lengths)[rows]
    observations = np.asarray(dataset.observations[rows], np.float64)
    states = (observations - observations.mean(0)) / (observations.std(0) + 1e-6)
    actions = np.asarray(dataset.actions[rows], np.float64)
    probed = rng.permutation(len(rows))[:PROBED]
    _, near = KDTree(states).query(states[probed], k=min(NEIGHBOURS, len(rows)))
    near = near.reshape(len(probed), -1)
    strange = episodes[near] != episodes[probed, None]
    found = strange.any(1)
    if not found.any():
        return None
    here, there = probed[found], near[found, strange.argmax(1)[found]]
    anywhere = rng.integers(len(rows), size=len(here))
    between = _length(actions[here] - actions[anywhere]).mean()
    return float(_length(actions[here] - actions[there]).mean() / between) if between else 0.0


def _length(vectors: Array) -> Array:
    length: Array = np.linalg.norm(vectors, axis=1)
    return length
