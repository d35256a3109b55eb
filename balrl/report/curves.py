"""`curves.png`: score, losses and values over a run, its phases marked."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from balrl.report.figures import drawn

COLORS = (
    "#2f6f9f", "#c8553d", "#4f8a4c", "#8a5a9e", "#b8860b", "#3aa6a6", "#d16ba5", "#7a7a7a", "#5b6fd6", "#7a4a2b",
)  # fmt: skip
PHASE_NAMES = {"pretrain": "pre-training", "warmup": "warm-up", "finetune": "fine-tuning"}
PHASE_SHADES = {"pretrain": "#eef2f5", "warmup": "#fbf3df", "finetune": "#ffffff"}


def draw_curves(records: Sequence[Mapping[str, Any]], path: Path, title: str, score_label: str) -> None:
    """Draw a run's records (of ``metrics.jsonl``) into a PNG."""
    with drawn(path, 9, 8) as figure:
        _draw(figure, records, title, score_label)


def _draw(figure: Figure, records: Sequence[Mapping[str, Any]], title: str, score_label: str) -> None:
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    score, losses, values = axes
    served = any("eval/learner_score" in record for record in records)
    _line(score, records, "eval/score", COLORS[0], "served (champion)" if served else "evaluation", marker="o")
    _line(score, records, "eval/learner_score", COLORS[1], "the learner's newest policy", marker=".", style=":")
    for record in records:
        if "champion/born" in record:
            score.axvline(record["step"], color=COLORS[0], linewidth=0.8, linestyle="-.")
    _line(score, records, "eval/success_rate", COLORS[2], "success, %", marker="s", style="--", scale=100)
    score.set_ylabel(score_label)
    for index, key in enumerate(k for k in _keys(records) if k.endswith("/loss")):
        _line(losses, records, key, COLORS[index % len(COLORS)], key.removesuffix("/loss"))
    losses.set_yscale("symlog", linthresh=0.1)
    losses.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    losses.set_ylabel("losses")
    _line(values, records, "critic/q", COLORS[0], "Q, data or replay actions")
    _line(values, records, "value/mean", COLORS[1], "V")
    values.set_ylabel("values")
    values.set_xlabel("updates (pre-training), then environment steps")
    spans = _phase_spans(records)
    for axis in axes:
        _mark_phases(axis, spans, named=axis is score)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
        else:
            axis.set_visible(False)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(short_number))
    score.set_title("\n".join(textwrap.wrap(title, 90)), loc="left", fontsize=11, pad=32)


def _keys(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))


def _line(
    axis: Axes,
    records: Sequence[Mapping[str, Any]],
    key: str,
    color: str,
    label: str,
    marker: str | None = None,
    style: str = "-",
    scale: float = 1.0,
) -> None:
    points = [(r["step"], scale * r[key]) for r in records if r.get(key) is not None]
    if points:
        x, y = zip(*points, strict=True)
        axis.plot(x, y, style, color=color, label=label, marker=marker, markersize=3.5, linewidth=1.4)


def _phase_spans(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    spans: list[tuple[str, float, float]] = []
    for record in records:
        phase, step = record["phase"], record["step"]
        if spans and spans[-1][0] == phase:
            spans[-1] = (phase, spans[-1][1], step)
        else:
            spans.append((phase, spans[-1][2] if spans else step, step))
    return spans


def _mark_phases(axis: Axes, spans: Sequence[tuple[str, float, float]], named: bool) -> None:
    total = spans[-1][2] - spans[0][1] if spans else 0
    for phase, start, stop in spans:
        axis.axvspan(start, stop, color=PHASE_SHADES.get(phase, "#ffffff"), zorder=0)
        if start > spans[0][1]:
            axis.axvline(start, color="#555555", linewidth=0.9, linestyle=":")
        if named and stop > start:
            narrow = stop - start < 0.12 * total
            axis.annotate(
                PHASE_NAMES.get(phase, phase),
                ((start + stop) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 14 if narrow else 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color="#444444",
            )


def short_number(value: float, _: object) -> str:
    """Write an axis tick as 500, 2k or 1.5M."""
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"
