"""What the switch from logged data to the task cost, in one line of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

WINDOW = 50_000


def switch_report(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what a run's evaluations say about its switch; None without one before and one after it.

    - ``score_before``: of the last evaluation before fine-tuning.
    - ``drop``: that score minus the lowest in the next ``window`` environment steps (50,000, or the run's length);
      negative if the score only rose. ``lowest`` and ``lowest_at`` say which score that was, after how many steps.
    - ``steps_to_recovery``: environment steps until a score, at or after the lowest, is again at least the score
      before; 0 without a drop, None if that never happened.
    - ``regret``: the mean over the online phase (trapezoids between evaluations) of ``100 − normalised score``, which
      is Cal-QL's cumulative regret (arXiv 2303.05479) in score points; None without normalised scores.

    Where a score is not finite, what depends on it is None: a policy that broke has no drop of 0.
    """
    before = [e for e in evaluations if e["phase"] != "finetune"]
    after = [e for e in evaluations if e["phase"] == "finetune"]
    if not before or not after:
        return None
    start = _finite(before[-1]["score"])
    window = min(WINDOW, int(after[-1]["env_steps"]))
    inside = [e for e in after if e["env_steps"] <= window]
    scores = [_finite(e["score"]) for e in inside]
    report: dict[str, Any] = {"score_before": start, "window": window}
    report |= dict.fromkeys(("lowest", "lowest_at", "drop", "steps_to_recovery"))
    if start is not None and scores and None not in scores:
        lowest = min(inside, key=lambda e: float(e["score"]))
        report |= {"lowest": float(lowest["score"]), "lowest_at": lowest["env_steps"]}
        report["drop"] = start - report["lowest"]
        back = [e["env_steps"] for e in after if e["env_steps"] >= report["lowest_at"] and _reaches(e, start)]
        report["steps_to_recovery"] = 0 if report["drop"] <= 0 else (back[0] if back else None)
    return report | {"regret": _regret([before[-1], *after])}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _reaches(evaluation: Mapping[str, Any], score: float) -> bool:
    found = _finite(evaluation["score"])
    return found is not None and found >= score


def _regret(evaluations: Sequence[Mapping[str, Any]]) -> float | None:
    if any(_finite(e["normalized_score"]) is None for e in evaluations):
        return None
    points = [(e["env_steps"], 100.0 - float(e["normalized_score"])) for e in evaluations]
    area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points))
    return area / (points[-1][0] - points[0][0])
