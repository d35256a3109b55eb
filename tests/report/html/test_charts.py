"""What a browser is given to draw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from balrl.report.html.charts import (
    MOST_POINTS,
    Series,
    line,
    phase_marks,
    run_charts,
    score_points,
    switch_charts,
    thinned,
)
from balrl.report.runs import Run

RECORDS: list[dict[str, Any]] = [
    {"step": 0, "phase": "pretrain", "eval/success_rate": 0.5},
    {"step": 100, "phase": "pretrain", "critic/loss": 2.0, "critic/q": 1.0, "switch/offline_q": 3.0},
    {"step": 110, "phase": "warmup", "switch/online_q": 4.0},
    {"step": 120, "phase": "finetune", "critic/loss": math.nan, "critic/q": 5.0, "reward/gap": 0.1},
    {"step": 130, "phase": "finetune", "critic/loss": 3.0, "champion/born": 1},
]


def evaluation(phase: str, env_steps: int, score: float) -> dict[str, Any]:
    return {"phase": phase, "env_steps": env_steps, "step": env_steps, "score": score, "normalized_score": None}


def run(evaluations: list[dict[str, Any]] | None = None, records: list[dict[str, Any]] | None = None) -> Run:
    return Run(Path("x"), {"env": "A", "agent": {"name": "iql"}}, evaluations or [], records or [], True)


def test_lines_have_finite_values_only() -> None:
    assert line(RECORDS, "critic/loss") == [[100, 2.0], [130, 3.0]]
    assert line(RECORDS, "critic/q", shift=100, scale=2.0) == [[0, 2.0], [20, 10.0]]
    assert line(RECORDS, "nothing") == []


def test_long_curves_are_thinned_to_their_ends() -> None:
    points = [[float(i), 0.0] for i in range(10_000)]
    found = thinned(points)
    assert len(found) == MOST_POINTS
    assert (found[0], found[-1]) == (points[0], points[-1])
    assert len({p[0] for p in found}) == MOST_POINTS
    assert thinned(points[:7]) == points[:7]


def test_intervals_are_those_of_the_mean_in_points_of_score() -> None:
    """A point of score is 4 of return here, and the deviation of 25 episodes 20·√(25/24): Student's t is 2.0639."""
    shared = {"episodes": 25, "return_std": 20.0, "normalized_score": 0.0}
    one = {**evaluation("pretrain", 0, 10.0), "step": 100, "return_mean": 40.0, **shared}
    two = {**evaluation("finetune", 10, 20.0), "step": 110, "return_mean": 80.0, **shared}
    (first, second) = score_points(run([one, two]), shift=100)
    half = 2.0638986 * 20 / 24**0.5 / 4
    assert first == pytest.approx([0, 10.0, 10 - half, 10 + half])
    assert second[:2] == [10, 20.0]
    assert score_points(run([one])) == [[100, 10.0]]  # one evaluation does not say what a point is
    assert score_points(run([{**one, "score": math.nan}, {**one, "score": 1e308}])) == []
    plain = {**one, "score": 40.0, "normalized_score": None}
    assert score_points(run([plain]))[0][2] == pytest.approx(40 - 4 * half)  # a return is its own score
    assert len(score_points(run([{**one, "return_std": "x"}, two]))[0]) == 2


def test_phases_begin_where_the_one_before_ended() -> None:
    assert phase_marks(run(records=RECORDS)) == [(100.0, "warm-up"), (110.0, "fine-tuning"), (130.0, "champion")]
    assert phase_marks(run()) == []


def test_charts_of_what_was_measured() -> None:
    charts = {chart.title: chart for chart in run_charts(run(records=RECORDS))}
    assert list(charts) == ["Score", "Success, %", "Values", "Losses", "Is the learned reward being fooled?"]
    assert charts["Success, %"].series == [Series("success", 0, [[0, 50.0]])]
    assert charts["Losses"].log
    assert charts["Losses"].series[0].name == "critic"
    assert charts["Values"].to_json()["marks"] == phase_marks(run(records=RECORDS))


def test_runs_are_aligned_at_the_switch() -> None:
    last = {**evaluation("finetune", 30, 20.0), "step": 130}
    charts = {chart.title: chart for chart in switch_charts({"a": run([last], RECORDS), "b": run([last], RECORDS)})}
    assert list(charts) == ["Score", "Mean Q"]
    names = [(s.name, s.color, s.points, s.dashed) for s in charts["Mean Q"].series]
    assert names == [
        ("a, logged batch", 0, [[0, 3.0]], False),
        ("a, newest transitions", 0, [[10, 4.0]], True),
        ("b, logged batch", 1, [[0, 3.0]], False),
        ("b, newest transitions", 1, [[10, 4.0]], True),
    ]
    alone = switch_charts({"a": run([last], RECORDS)})
    assert [s.name for s in alone[1].series] == ["logged batch", "newest transitions"]
