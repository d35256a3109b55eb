"""Curves that a browser draws: what is in them, small enough to be sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from scipy.special import stdtrit

from balrl.report.curves import PHASE_NAMES
from balrl.report.runs import Run
from balrl.report.switch_plot import PANELS

MOST_POINTS = 400
"""Of a curve; more are thinned evenly, first and last kept."""
CERTAIN = 0.95
"""Of intervals."""
LARGEST = 1e300
"""Larger values than that are no measurements, and a browser cannot draw them."""


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: in the legend.
        color: its place in the palette.
        points: ``[x, y]``, or ``[x, y, low, high]`` with an interval.
        dashed: whether its line is.
    """

    name: str
    color: int
    points: list[list[float]]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over the same axis.

    Attributes:
        title: above it.
        series: the curves.
        marks: where something began, with its name.
        x_label: of the axis.
        log: whether the vertical axis is logarithmic, symmetrically about 0.
    """

    title: str
    series: list[Series]
    marks: list[tuple[float, str]] = field(default_factory=list)
    x_label: str = "updates (pre-training), then environment steps"
    log: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        lines = [{"name": s.name, "color": s.color, "points": s.points, "dashed": s.dashed} for s in self.series]
        return {"title": self.title, "series": lines, "marks": self.marks, "x": self.x_label, "log": self.log}


def line(records: Iterable[Mapping[str, Any]], key: str, shift: float = 0, scale: float = 1.0) -> list[list[float]]:
    """Return a metric's finite values over the run's steps, thinned."""
    return thinned([[r["step"] - shift, scale * float(r[key])] for r in records if _can_be_drawn(r.get(key))])


def thinned(points: list[list[float]]) -> list[list[float]]:
    """Return at most `MOST_POINTS` of the points, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(i * last / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def score_points(run: Run, shift: float = 0) -> list[list[float]]:
    """Return scores over a run's steps, each with the 95 % interval of its episodes' mean where it is known.

    Student's: ``t · s / √n``, s with n − 1 of n episodes.
    """
    slope = _points_per_return(run.evaluations)
    found = []
    for evaluation in run.evaluations:
        score, count = evaluation.get("score"), evaluation.get("episodes")
        if not _can_be_drawn(score):
            continue
        point = [evaluation["step"] - shift, float(score)]
        spread = evaluation.get("return_std")
        if slope is not None and isinstance(count, int) and count > 1 and _can_be_drawn(spread):
            half = abs(slope) * float(stdtrit(count - 1, (1 + CERTAIN) / 2)) * float(spread) / math.sqrt(count - 1)
            point += [point[1] - half, point[1] + half]
        found.append(point)
    return thinned(found)


def run_charts(run: Run) -> list[Chart]:
    """Return what is drawn of one run; charts of what it did not measure are left out."""
    marks, records = phase_marks(run), run.records
    served = any("eval/learner_score" in record for record in records)
    score = [Series("served (champion)" if served else "score", 0, score_points(run))]
    score += _series(records, {"eval/learner_score": "the learner's newest policy"}, 1, dashed=True)
    charts = [Chart("Score", score, marks)]
    groups: list[tuple[str, dict[str, str], bool]] = [
        ("Success, %", {"eval/success_rate": "success"}, False),
        ("Values", {"critic/q": "Q, data or replay actions", "value/mean": "V"}, False),
        ("Losses", {k: k.removesuffix("/loss") for k in _keys(records) if k.endswith("/loss")}, True),
        ("Balance chosen", {"balance/mean": "mean", "balance/std": "deviation over states"}, False),
        ("Learned and true reward", {"reward/proxy": "learned (proxy)", "reward/gold": "the task's own (gold)"}, False),
        (
            "Is the learned reward being fooled?",
            {
                "reward/gap": "gap, deviations",
                "reward/disagreement": "disagreement",
                "reward/correlation": "correlation",
            },
            False,
        ),
        (
            "Reward models on held-out pairs",
            {"reward/accuracy": "accuracy", "reward/calibration_error": "calibration error"},
            False,
        ),
    ]
    for title, keys, log in groups:
        scale = 100.0 if title.endswith("%") else 1.0
        series = _series(records, keys, 0, scale=scale)
        if series:
            charts.append(Chart(title, series, marks, log=log))
    return charts


def switch_charts(runs: Mapping[str, Run]) -> list[Chart]:
    """Return runs aligned at their switch, by the name to show; nothing where none was measured there."""
    charts = []
    for title, keys in PANELS:
        series = []
        for color, (name, run) in enumerate(runs.items()):
            for key in keys:
                points = score_points(run, run.switch_step) if key == "eval/score" else None
                found = line(run.records, key, run.switch_step) if points is None else points
                if found:
                    online = key.startswith("switch/online")
                    words = "newest transitions" if online else "logged batch" if len(keys) > 1 else ""
                    parts = [name] * (len(runs) > 1) + [words] * bool(words)
                    series.append(Series(", ".join(parts) or title, color, found, dashed=online))
        if series:
            label = "← updates of pre-training · environment steps →"
            charts.append(Chart(title[0].upper() + title[1:], series, [(0.0, "switch")], label))
    return charts


def phase_marks(run: Run) -> list[tuple[float, str]]:
    """Return where a run's phases ended, named by the ones that follow, and where its champion changed."""
    marks: list[tuple[float, str]] = []
    phase, last = None, 0.0
    for record in run.records:
        following, step = str(record.get("phase")), float(record["step"])
        if phase is not None and following != phase:
            marks.append((last, PHASE_NAMES.get(following, following)))
        phase, last = following, step
        if "champion/born" in record:
            marks.append((step, "champion"))
    return marks


def _series(
    records: Sequence[Mapping[str, Any]], keys: Mapping[str, str], color: int, scale: float = 1.0, dashed: bool = False
) -> list[Series]:
    found = [(name, line(records, key, scale=scale)) for key, name in keys.items()]
    return [Series(name, color + i, points, dashed) for i, (name, points) in enumerate(found) if points]


def _keys(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))


def _can_be_drawn(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < LARGEST


def _points_per_return(evaluations: Sequence[Mapping[str, Any]]) -> float | None:
    """Return how many points of score one of return is: 1 without normalisation, else from two evaluations."""
    pairs = [
        (float(e["return_mean"]), float(e["score"]))
        for e in evaluations
        if all(_can_be_drawn(e.get(key)) for key in ("return_mean", "score"))
    ]
    if not pairs:
        return None
    if all(e.get("normalized_score") is None for e in evaluations):
        return 1.0
    low, high = min(pairs), max(pairs)
    return (high[1] - low[1]) / (high[0] - low[0]) if high[0] > low[0] else None
