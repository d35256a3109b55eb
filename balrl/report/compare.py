"""Comparing methods over seeds and tasks: interquartile means with intervals, probability of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from balrl.errors import UserError, did_you_mean
from balrl.evaluation import bootstrap_interval, iqm, probability_of_improvement
from balrl.report.runs import Run, labels
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


class Block(NamedTuple):
    """The methods on one task, or on all tasks together.

    Attributes:
        title: the task, or how many.
        rows: one for each method, in the order in which they were given.
        groups: their runs.
    """

    title: str
    rows: list[Row]
    groups: dict[str, list[Run]]


def compare_runs(runs: Sequence[Run], metric: str = "final", chosen: Sequence[str] = ()) -> list[Block]:
    """Compare methods task by task and, where all ran several and have normalised scores there, over these together.

    Args:
        runs: of any methods and tasks.
        metric: the score of the last or the best evaluation, or the drop at the switch or the regret after it.
        chosen: only these tasks; default: all.

    Raises:
        UserError: when a chosen task is none of the runs', or a run lacks the metric.
    """
    tasks = list(dict.fromkeys(run.task for run in runs))
    for name in chosen:
        if name not in tasks:
            raise UserError(f"no run is on the task '{name}'{did_you_mean(name, tasks)}; found {', '.join(tasks)}")
    runs = [run for run in runs if not chosen or run.task in chosen]
    groups = labels(runs)
    tasks = [task for task in tasks if not chosen or task in chosen]
    blocks = [_block(task, groups, [task], metric) for task in tasks]
    shared = [task for task in tasks if all(any(run.task == task for run in group) for group in groups.values())]
    comparable = all(run.is_normalized for run in runs if run.task in shared)
    if len(shared) > 1 and comparable:
        blocks.append(_block(f"{len(shared)} tasks together", groups, shared, metric))
    return blocks


def _block(title: str, groups: Mapping[str, Sequence[Run]], tasks: Sequence[str], metric: str) -> Block:
    here = {method: [run for run in group if run.task in tasks] for method, group in groups.items()}
    here = {method: group for method, group in here.items() if group}
    return Block(title, compare(here, tasks, metric), here)


def compare(groups: Mapping[str, Sequence[Run]], tasks: Sequence[str], metric: str = "final") -> list[Row]:
    """Compare methods on tasks that all of them ran.

    Args:
        groups: runs by method; the first is what the others are compared with.
        tasks: which.
        metric: see `compare_runs`.

    Raises:
        UserError: when a run lacks the metric.
    """
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
