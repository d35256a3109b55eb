"""`compare.png`: intervals, learning curves and performance profiles, a row of panels for every task."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from balrl.report.bands import Array, Band, iqm_band, performance_profile
from balrl.report.compare import LOWER_IS_BETTER, Block, Row
from balrl.report.curves import COLORS, short_number
from balrl.report.figures import drawn
from balrl.report.runs import Run

LINE, LINES = 26, 3
"""Letters in a line of a method's name, and lines of it."""


def draw_comparison(blocks: Sequence[Block], metric: str, path: Path) -> None:
    """Draw what `compare_runs` found into a PNG.

    Left every run, the interquartile mean and its 95 % interval; in the middle the interquartile mean over the runs'
    course, its interval as a band; right the share of runs beyond each score.
    """
    heights = [1.5 + sum(0.2 + 0.16 * wrapped(row.method).count("\n") for row in block.rows) for block in blocks]
    heights = [max(height, 2.9) for height in heights]
    names = dict.fromkeys(method for block in blocks for method in block.groups)
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    with drawn(path, 14, sum(heights) + 0.4) as figure:
        panels = figure.subplots(len(blocks), 3, width_ratios=(5, 6, 5), height_ratios=heights, squeeze=False)
        for block, (left, middle, right) in zip(blocks, panels, strict=True):
            _draw_intervals(left, block.rows, colors)
            for row in block.rows:
                _draw_curve(middle, block.groups[row.method], colors[row.method])
            _draw_profiles(right, block.rows, metric, colors)
            left.set_title(textwrap.shorten(block.title, 60, placeholder="…"), loc="left", fontsize=10, weight="bold")
            left.set_xlabel(f"{metric}: every run, IQM, 95 % interval", fontsize=9)
            middle.set_xlabel("← updates of pre-training · environment steps →", fontsize=9)
            middle.set_ylabel("score, IQM with 95 % band", fontsize=9)
            right.set_xlabel(f"{metric} τ", fontsize=9)
            right.set_ylabel("share of runs " + ("below τ" if metric in LOWER_IS_BETTER else "above τ"), fontsize=9)
            for axis in (left, middle, right):
                axis.grid(alpha=0.25, linewidth=0.6)
                axis.spines[["top", "right"]].set_visible(False)
                axis.tick_params(labelsize=8)


def wrapped(name: str) -> str:
    """Return a method's name in short lines, cut where there are too many."""
    return "\n".join(textwrap.wrap(name, LINE, max_lines=LINES, placeholder=" …")) or name[:LINE]


def _draw_intervals(axis: Axes, rows: Sequence[Row], colors: dict[str, str]) -> None:
    for index, row in enumerate(rows):
        color = colors[row.method]
        axis.plot(row.interval, [index, index], color=color, linewidth=6, alpha=0.35, solid_capstyle="butt")
        axis.plot(row.iqm, index, "|", color=color, markersize=16, markeredgewidth=2.5)
        values = [x for task in row.scores for x in task]
        axis.plot(values, [index] * len(values), "o", color=color, markersize=3, alpha=0.6)
    axis.set_yticks(range(len(rows)), [wrapped(row.method) for row in rows])
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(colors[row.method])
    axis.set_ylim(len(rows) - 0.4, -0.6)


def _draw_curve(axis: Axes, runs: Sequence[Run], color: str) -> None:
    tasks: dict[str, list[dict[int, float]]] = {}
    for run in runs:
        course = {e["step"] - run.switch_step: e["score"] for e in run.evaluations if e["score"] is not None}
        tasks.setdefault(run.task, []).append(course)
    everywhere = set.intersection(*(set(course) for curves in tasks.values() for course in curves))
    if not everywhere:
        return
    steps = sorted(everywhere)
    band = iqm_band([[[course[step] for step in steps] for course in curves] for curves in tasks.values()])
    _draw_band(axis, np.asarray(steps, np.float64), band, color, marker="o" if len(steps) < 60 else "")
    axis.axvline(0, color="#555555", linewidth=0.9, linestyle=":")
    axis.xaxis.set_major_formatter(FuncFormatter(short_number))


def _draw_profiles(axis: Axes, rows: Sequence[Row], metric: str, colors: dict[str, str]) -> None:
    every = np.array([x for row in rows for task in row.scores for x in task])
    margin = 0.05 * max(float(np.ptp(every)), 1e-9)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 200)
    for row in rows:
        band = performance_profile(row.scores, thresholds)
        if metric in LOWER_IS_BETTER:
            band = Band(1 - band.value, 1 - band.high, 1 - band.low)
        _draw_band(axis, thresholds, band, colors[row.method])
    axis.set_ylim(-0.03, 1.03)


def _draw_band(axis: Axes, x: Array, band: Band, color: str, marker: str = "") -> None:
    axis.fill_between(x, band.low, band.high, color=color, alpha=0.15, linewidth=0)
    axis.plot(x, band.value, color=color, linewidth=1.5, marker=marker, markersize=2.5)
