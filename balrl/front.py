"""What policies for several rewards come to: the Pareto front, and the numbers that sum it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, count
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balrl.errors import UserError

Array = NDArray[np.float64]


def simplex_grid(dim: int, least: int) -> Array:
    """Return preferences spread evenly on the simplex, the corners among them: ``[P, dim]``, P at least `least`.

    The lattice of all w with ``w_i ∈ {0, 1/h, …, 1}`` (Das and Dennis, 1998) for the smallest h that has enough points.
    """
    if dim == 1:
        return np.ones((1, 1))
    h = next(h for h in count(1) if comb(h + dim - 1, dim - 1) >= least)
    bars = np.array(list(combinations(range(h + dim - 1), dim - 1)))
    edges = np.concatenate([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), h + dim - 1)], 1)
    grid: Array = (np.diff(edges, axis=1) - 1) / h
    return grid


def nondominated(points: Array) -> NDArray[np.bool_]:
    """Return which of the points ``[P, m]`` no other dominates, larger being better; of equal ones, the first."""
    found = np.zeros(len(points), bool)
    left = np.lexsort((np.arange(len(points)), *-points.T))  # whoever dominates another comes before it
    while len(left):
        best, rest = left[0], left[1:]
        found[best] = True
        left = rest[~(points[rest] <= points[best]).all(1)]
    return found


def hypervolume(points: Array, reference: Sequence[float]) -> float:
    """Return the volume that points ``[P, m]`` dominate above a reference point, larger being better.

    Raises:
        UserError: without the package `moocore`, which computes it, or for a reference of another number of rewards.
    """
    check_reference(reference, points.shape[1])
    import moocore

    return float(moocore.hypervolume(points, ref=list(reference), maximise=True))


def check_reference(reference: Sequence[float], objectives: int) -> None:
    """Raise a `UserError` where `hypervolume` would, before there are points."""
    try:
        import moocore  # noqa: F401
    except ImportError as error:
        raise UserError("the hypervolume needs moocore; it comes with: pip install 'balrl[multi-objective]'") from error
    if len(reference) != objectives:
        raise UserError(
            f"the hypervolume's reference has {len(reference)} numbers, expected {objectives}, one per reward"
        )


def sparsity(points: Array) -> float:
    """Return ``Σ_i Σ_k (v_i(k) − v_i(k+1))² / (n − 1)`` of n points ``[n, m]``, components sorted one by one (PGMORL).

    0 for a single point: small is good only beside a large hypervolume.
    """
    if len(points) < 2:
        return 0.0
    return float(np.square(np.diff(np.sort(points, axis=0), axis=0)).sum() / (len(points) - 1))


@dataclass(frozen=True)
class Front:
    """What preferences returned.

    Attributes:
        preferences: ``[P, m]``, on the simplex.
        points: ``[P, m]``, the mean return vector of the policy under each.
    """

    preferences: Array
    points: Array

    @classmethod
    def of_episodes(cls, preferences: Sequence[Sequence[float]], vectors: Sequence[Sequence[float]]) -> Front:
        """Return the means over episodes with one and the same preference, in the order in which those were played."""
        by: dict[tuple[float, ...], list[Sequence[float]]] = {}
        for preference, vector in zip(preferences, vectors, strict=True):
            by.setdefault(tuple(preference), []).append(vector)
        return cls(np.array(list(by)), np.array([np.mean(vectors, 0) for vectors in by.values()]))

    @property
    def is_efficient(self) -> NDArray[np.bool_]:
        """``[P]``: the points that no other dominates."""
        return nondominated(self.points)

    @property
    def utilities(self) -> Array:
        """``[P]``: wᵀv of each preference and its own point."""
        found: Array = (self.preferences * self.points).sum(1)
        return found

    @property
    def expected_utility(self) -> float:
        """The mean of wᵀv over preferences, each with the point of the policy that was asked for it."""
        return float(self.utilities.mean())

    @property
    def best_utility(self) -> float:
        """The mean over preferences of the best ``max_v wᵀv`` that the front holds for it (Zintgraf et al., 2015)."""
        return float((self.preferences @ self.points.T).max(1).mean())

    @property
    def sparsity(self) -> float:
        """Of the points that no other dominates."""
        return sparsity(self.points[self.is_efficient])

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Return the volume that is dominated above a reference point."""
        return hypervolume(self.points, reference)

    def to_json(self, reference: Sequence[float] | None = None) -> dict[str, Any]:
        """Return points and numbers as plain JSON types; the hypervolume where there is a reference point for it."""
        measured = {} if reference is None else {"hypervolume": self.hypervolume(reference)}
        return {
            "expected_utility": self.expected_utility,
            "best_utility": self.best_utility,
            "sparsity": self.sparsity,
            **measured,
            "front": [
                {"preference": w, "return": v, "efficient": bool(e)}
                for w, v, e in zip(self.preferences.tolist(), self.points.tolist(), self.is_efficient, strict=True)
            ],
        }
