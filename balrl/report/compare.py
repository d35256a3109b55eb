"""Comparing methods over seeds and tasks: interquartile means with intervals, probability of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.table import Table

from balrl.errors import UserError
from balrl.evaluation import bootstrap_interval, iqm, probability_of_improvement
from balrl.report.curves import COLORS, short_number
from balrl.report.runs import Run
from balrl.report.switch import switch_report

METRICS = ("final", "best", "drop", "regret")
LOWER_IS_BETTER = ("drop", "regret")


@dataclass(frozen=True)
class Row:
    """What one method came to.

    Attributes:
        method: its name.
        scores: ``[tasks][seeds]``.
        iqm, interval: interquartile mean over tasks and seeds, its 95 % stratified bootstrap interval over seeds.
        improvement: probability that a run of this method beats one of the first method on the same task, and its
            interval; None for the first method.
    """

    method: str
    scores: list[list[float]]
    iqm: float
    interval: tuple[float, float]
    improvement: tuple[float, float, float] | None

    @property
    def count(self) -> int:
        return sum(map(len, self.scores))

    @property
    def is_repeated(self) -> bool:
        """Whether every task has several seeds: an interval over one would look like certainty."""
        return min(map(len, self.scores)) > 1


def on_shared_tasks(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """Return the runs on the tasks that every method ran.

    Raises:
        UserError: when there is no such task.
    """
    tasks = dict.fromkeys(r.task for runs in groups.values() for r in runs)
    shared = [t for t in tasks if all(any(r.task == t for r in runs) for runs in groups.values())]
    if not shared:
        raise UserError(f"the methods share no task; found {', '.join(tasks)}: compare runs on the same task")
    return {method: [r for r in runs if r.task in shared] for method, runs in groups.items()}


def compare(groups: Mapping[str, Sequence[Run]], metric: str = "final") -> list[Row]:
    """Compare methods on the tasks that all of them ran.

    Args:
        groups: runs by method; the first is what the others are compared with.
        metric: the score of the last or the best evaluation, or the drop at the switch or the regret after it.

    Raises:
        UserError: when there is no such task, or a run lacks the metric.
    """
    groups = on_shared_tasks(groups)
    tasks = list(dict.fromkeys(r.task for runs in groups.values() for r in runs))
    rows: list[Row] = []
    for method, runs in groups.items():
        scores = [[_value(r, metric) for r in runs if r.task == task] for task in tasks]
        better = None
        if rows:
            pair = (scores, rows[0].scores) if metric not in LOWER_IS_BETTER else (rows[0].scores, scores)
            better = probability_of_improvement(*pair)
        pooled = [x for task in scores for x in task]
        rows.append(Row(method, scores, iqm(pooled), bootstrap_interval(scores), better))
    return rows


def comparison_table(rows: Sequence[Row], metric: str) -> Table:
    """Return the table of ``balrl compare``."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for name in ("runs", f"{metric}, IQM", "95 % interval", "P(better than the first)"):
        table.add_column(name, justify="right")
    for row in rows:
        interval = "[{:.1f}, {:.1f}]".format(*row.interval) if row.is_repeated else "one run"
        better = "—"
        if row.improvement is not None:
            repeated = row.is_repeated and rows[0].is_repeated
            better = ("{:.2f} [{:.2f}, {:.2f}]" if repeated else "{:.2f}").format(*row.improvement)
        table.add_row(row.method, str(row.count), f"{row.iqm:.1f}", interval, better)
    return table


def draw_comparison(groups: Mapping[str, Sequence[Run]], rows: Sequence[Row], metric: str, path: Path) -> None:
    """Draw the intervals, and the interquartile mean over each run's course, into a PNG."""
    figure = Figure(figsize=(12, 2.6 + 0.35 * len(rows)), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    for index, row in enumerate(rows):
        color = COLORS[index % len(COLORS)]
        left.plot(row.interval, [index, index], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
        left.plot(row.iqm, index, "|", color=color, markersize=16, markeredgewidth=2.5)
        values = [x for task in row.scores for x in task]
        left.plot(values, [index] * len(values), "o", color=color, markersize=3, alpha=0.6)
        _curve(right, groups[row.method], color, row.method)
    left.set_yticks(range(len(rows)), [row.method for row in rows], fontsize=8)
    left.invert_yaxis()
    left.set_title(f"{metric}: IQM, 95 % interval, every run", loc="left", fontsize=10)
    right.axvline(0, color="#555555", linewidth=0.9, linestyle=":")
    right.set_title("score, interquartile mean over runs", loc="left", fontsize=10)
    right.set_xlabel("← updates of pre-training · environment steps →", fontsize=9)
    right.xaxis.set_major_formatter(FuncFormatter(short_number))
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _curve(axis: Axes, runs: Sequence[Run], color: str, label: str) -> None:
    at: dict[int, list[float]] = {}
    for run in runs:
        for record in run.evaluations:
            if record["score"] is not None:
                at.setdefault(record["step"] - run.switch_step, []).append(record["score"])
    steps = sorted(step for step, scores in at.items() if len(scores) == len(runs))
    axis.plot(steps, [iqm(at[s]) for s in steps], color=color, label=label, linewidth=1.5, marker="o", markersize=2.5)


def _value(run: Run, metric: str) -> float:
    scores = [e["score"] for e in run.evaluations]
    found: Any
    if metric == "final":
        found = scores[-1]
    elif metric == "best":
        found = max((s for s in scores if s is not None), default=None)
    else:
        found = (switch_report(run.evaluations) or {}).get(metric)
    if found is None:
        needs = {"drop": "evaluations before and after the switch", "regret": "such evaluations and a reference score"}
        raise UserError(
            f"'{run.path}' has no {metric}: it needs finite scores" + f", {needs.get(metric, '')}".rstrip(", ")
        )
    return float(found)
