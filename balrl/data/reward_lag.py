"""Whether rewards stand in the rows of the transitions that they are of."""

from __future__ import annotations

import numpy as np

from balrl.data.dataset import Array, Dataset

ROWS = 20_000
"""That are looked at."""
FEW = 500
"""Rows below which nothing is said."""
LAGS = {-1: "a row too early", 0: "", 1: "a row too late"}
GOOD, BETTER = 0.5, 0.5
"""What a shift must explain of the rewards' variance, and the share of the present residue that it may leave."""
RIDGE = 1e-3
FEW_ENDS, MOST = 5, 0.9
"""Terminated rows below which nothing is said of rewards with two values, and the share of them that decides."""


def shifted_rewards(dataset: Dataset) -> list[str]:
    """Return a sentence if the rewards of the rows before or behind are what the transitions explain.

    ``r_{t+k}`` is regressed on the terms of ``(s_t, a_t, s_{t+1}, s_{t+1} − s_t)`` up to the second order of each, for
    k = −1, 0, 1, within episodes, on one half of the rows; the other half says how much of the variance is explained.
    Rewards that are shifted are explained by another k than 0. Where rewards have two values, the rarer one belongs to
    the rows that terminate, if to any row near them.
    """
    values, counts = np.unique(dataset.rewards, return_counts=True)
    if len(values) == 2:
        return _beside_the_ends(dataset, dataset.rewards == values[counts.argmin()])
    inside = _with_neighbours(dataset)
    if len(inside) < FEW or np.ptp(dataset.rewards[inside]) == 0:
        return []
    rows = np.random.default_rng(0).permutation(inside)[:ROWS]
    features = _features(dataset, rows)
    found = {lag: _explained(features, dataset.rewards[rows + lag].astype(np.float64)) for lag in LAGS}
    best = max(found, key=lambda lag: found[lag])
    if best == 0 or found[best] < GOOD or 1 - found[best] > BETTER * (1 - found[0]):
        return []
    return [
        f"rewards look as if they stood {LAGS[best]}: transitions explain {found[best]:.0%} of the variance of the "
        f"{'following' if best > 0 else 'preceding'} row's reward and {found[0]:.0%} of their own; a row holds the "
        "reward of its own action"
    ]


def _beside_the_ends(dataset: Dataset, rare: Array) -> list[str]:
    """Return a sentence if the rarer reward stands beside the rows that terminate."""
    rows = np.flatnonzero(dataset.terminated[1:-1]) + 1
    if len(rows) < FEW_ENDS:
        return []
    shares = {lag: rare[rows + lag].mean() for lag in LAGS}
    best = max(shares, key=lambda lag: float(shares[lag]))
    if best == 0 or shares[best] < MOST or shares[0] > 1 - MOST:
        return []
    return [
        f"rewards look as if they stood {LAGS[best]}: the rarer one is in {shares[0]:.0%} of the rows that terminate, "
        f"and in {shares[best]:.0%} of those {'behind' if best > 0 else 'before'}; a row holds its own action's reward"
    ]


def _with_neighbours(dataset: Dataset) -> Array:
    """Return the rows whose neighbours on both sides are of the same episode."""
    ends = dataset.ends
    follows = np.r_[False, ~ends[:-1]]
    return np.flatnonzero(follows & ~ends)


def _features(dataset: Dataset, rows: Array) -> Array:
    states, following = (
        getattr(dataset, name)[rows].astype(np.float64) for name in ("observations", "next_observations")
    )
    parts = np.concatenate([states, dataset.actions[rows], following, following - states], -1)
    parts = (parts - parts.mean(0)) / (parts.std(0) + 1e-8)
    parts = parts.clip(-10, 10)
    return np.concatenate([np.ones((len(rows), 1)), parts, parts**2], -1)


def _explained(features: Array, rewards: Array) -> float:
    """Return 1 − residual variance / variance on the rows that were not fitted."""
    half = len(features) // 2
    x, y = features[:half], rewards[:half]
    weights = np.linalg.solve(x.T @ x + RIDGE * half * np.eye(x.shape[1]), x.T @ y)
    residue = rewards[half:] - features[half:] @ weights
    return float(1 - residue.var() / max(rewards[half:].var(), 1e-12))
