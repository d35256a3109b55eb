"""What the episodes of several arms say about each one, where neighbours are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
LIKENESS = (0.05, 0.1, 0.2, 0.4, 1.6, 6.4, 25.6, 102.4)
"""Variances between the arms' means that are thought possible, in variances of an episode."""
WIDTHS = (1 / 7, 2 / 7, 4 / 7)
"""Distances, in shares of the range, over which arms are thought to be alike."""
OWN = 0.5
"""Variance of an arm's own, where its position does not say all of it, in variances between the arms."""


class Place(NamedTuple):
    """Where an arm lies among the others.

    Attributes:
        position: in shares of the range; None where that is not known.
        is_exact: whether the position says all about it, as of a constant member.
    """

    position: float | None
    is_exact: bool = True


class Pooled(NamedTuple):
    """The posterior of the arms' means: ``[k]`` and ``[k, k]``."""

    mean: Array
    covariance: Array

    def probability_above(self, arm: int, other: int) -> float:
        """Return P(mean of one > mean of the other)."""
        c = self.covariance
        variance = float(c[arm, arm] + c[other, other] - 2 * c[arm, other])
        difference = float(self.mean[arm] - self.mean[other])
        if variance <= 0 or arm == other:
            return 0.5 if difference == 0 else float(difference > 0)
        return 0.5 * (1 + math.erf(difference / math.sqrt(2 * variance)))

    def interval(self, arm: int) -> dict[str, float]:
        """Return mean and 95 % interval of an arm."""
        mean, half = float(self.mean[arm]), 1.96 * math.sqrt(max(0.0, float(self.covariance[arm, arm])))
        return {"mean": mean, "low": mean - half, "high": mean + half}


def pool(values: Sequence[Sequence[float]], places: Sequence[Place]) -> Pooled | None:
    """Return the posterior of the arms' means given all their episodes; None without any.

    A Gaussian process over the arms' places with a squared-exponential kernel and an unknown common mean (Rasmussen and
    Williams, Gaussian Processes for Machine Learning, 2.2 and 2.7), averaged over `LIKENESS` and `WIDTHS` by their
    likelihood. The noise of an episode is estimated within the arms, with half the range of all values, squared, as one
    more square: two equal successes in a row prove little.
    """
    counts = np.array([len(v) for v in values])
    if not counts.sum():
        return None
    everything = np.concatenate([np.asarray(v, np.float64) for v in values])
    low, unit, played = float(everything.min()), float(np.ptp(everything)), counts > 0
    if unit == 0:
        return Pooled(np.full(len(values), low), np.zeros((len(values), len(values))))
    shares = [(np.asarray(v, np.float64) - low) / unit for v in values]  # of the range, whatever the unit
    centre = float(np.concatenate(shares).mean())
    means = np.array([v.mean() if len(v) else centre for v in shares])
    within = sum(float(np.square(v - m).sum()) for v, m in zip(shares, means, strict=True))
    noise = (within + 0.25) / (counts.sum() - played.sum() + 1)
    seen, found = means[played] - centre, []
    for width in WIDTHS:
        kernel = _likeness(places, width)
        for likeness in LIKENESS:
            prior = noise * (likeness * kernel + 1.0)  # + 1: the common mean is not known
            data = prior[np.ix_(played, played)] + np.diag(noise / counts[played])
            root = np.linalg.cholesky(data)
            half = np.linalg.solve(root, seen)
            gain = np.linalg.solve(data, prior[played]).T
            log_likelihood = -0.5 * half @ half - np.log(np.diag(root)).sum()
            found.append((log_likelihood, gain @ seen, prior - gain @ prior[played]))
    weights = np.exp(np.array([f[0] for f in found]) - max(f[0] for f in found))
    weights /= weights.sum()
    mean = sum(w * f[1] for w, f in zip(weights, found, strict=True))
    spread = sum(
        w * (f[2] + np.outer(f[1] - mean, f[1] - mean)) for w, f in zip(weights, found, strict=True)
    )  # within and between the hypotheses
    return Pooled(low + unit * (centre + mean), spread * unit**2)


def _likeness(places: Sequence[Place], width: float) -> Array:
    """Return the kernel ``[k, k]``; an arm whose position is not known is like itself alone."""
    unknown = [place.position is None for place in places]
    x = np.array([0.0 if place.position is None else place.position for place in places])
    kernel = np.exp(-0.5 * np.square((x[:, None] - x[None]) / width))
    kernel[unknown] = kernel[:, unknown] = 0.0
    kernel += np.diag([1.0 if place.position is None else 0.0 if place.is_exact else OWN for place in places])
    return kernel
