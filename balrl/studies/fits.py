"""Curves of gold against the divergence from the initial policy (Gao et al., arXiv 2210.10760)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Fit(NamedTuple):
    """``R(d) = d (α − β d)`` or ``d (α − β log d)``, and its root mean square error."""

    alpha: float
    beta: float
    error: float


def fit_best_of_n(distance: ArrayLike, gain: ArrayLike) -> Fit:
    """Fit ``R(d) = d (α − β d)`` by least squares.

    Args:
        distance: ``d = √KL`` ``[P]``, in nats^½.
        gain: gold above the initial policy's ``[P]``.
    """
    d = np.asarray(distance, np.float64)
    return _solve(d, d * d, gain)


def fit_policy(distance: ArrayLike, gain: ArrayLike) -> Fit:
    """Fit ``R(d) = d (α − β log d)`` by least squares, as `fit_best_of_n`; points with d = 0 say nothing."""
    d = np.asarray(distance, np.float64)
    return _solve(d, d * np.log(np.where(d > 0, d, 1.0)), gain)


def _solve(first: NDArray[np.float64], second: NDArray[np.float64], gain: ArrayLike) -> Fit:
    design, wanted = np.stack([first, -second], -1), np.asarray(gain, np.float64)
    (alpha, beta), *_ = np.linalg.lstsq(design, wanted, rcond=None)
    error = np.sqrt(np.mean((design @ (alpha, beta) - wanted) ** 2))
    return Fit(float(alpha), float(beta), float(error))
