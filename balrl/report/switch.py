"""What the switch from logged data to the task cost, in one line of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

WINDOW = 50_000


def switch_report(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what a run's evaluations say about its switch; None without one before and one after it.

    - ``score_before``: of the last evaluation before the first online step.
    - ``drop``: that score minus the lowest in the next ``window`` environment steps (50,000, or the run's length), at
      least 0; ``lowest`` and ``lowest_at`` say which score that was, after how many steps.
    - ``steps_to_recovery``: environment steps until a score, at or after the lowest, is again at least the score
      before; 0 without a drop, None if that never happened.
    - ``regret``: the mean over the online phase (trapezoids between evaluations) of ``100 − normalised score``, which
      is Cal-QL's cumulative regret (arXiv 2303.05479) in score points; None without normalised scores.
    """
    before = [e for e in evaluations if e["env_steps"] == 0]
    after = [e for e in evaluations if e["env_steps"] > 0]
    if not before or not after:
        return None
    start = float(before[-1]["score"])
    window = min(WINDOW, int(after[-1]["env_steps"]))
    lowest = min((e for e in after if e["env_steps"] <= window), key=lambda e: float(e["score"]), default=after[0])
    drop = max(0.0, start - float(lowest["score"]))
    recovered = [e["env_steps"] for e in after if e["env_steps"] >= lowest["env_steps"] and e["score"] >= start]
    return {
        "score_before": start,
        "window": window,
        "lowest": float(lowest["score"]),
        "lowest_at": lowest["env_steps"],
        "drop": drop,
        "steps_to_recovery": 0 if drop == 0 else (recovered[0] if recovered else None),
        "regret": _regret([before[-1], *after]),
    }


def _regret(evaluations: Sequence[Mapping[str, Any]]) -> float | None:
    if any(e["normalized_score"] is None for e in evaluations):
        return None
    points = [(e["env_steps"], 100.0 - float(e["normalized_score"])) for e in evaluations]
    area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points))
    return area / (points[-1][0] - points[0][0])
