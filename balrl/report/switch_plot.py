"""`switch.png`: runs aligned where logged data ends and the task begins."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from balrl.report.curves import COLORS, short_number
from balrl.report.figures import drawn
from balrl.report.runs import Run

PANELS = (
    ("score", ("eval/score",)),
    ("mean Q", ("switch/offline_q", "switch/online_q")),
    ("TD error (root mean square)", ("switch/offline_td", "switch/online_td")),
    ("KL to the policy at the switch, nats", ("switch/kl",)),
    ("saturated action components", ("switch/saturation",)),
    ("disagreement of critics", ("switch/offline_disagreement", "switch/online_disagreement")),
)


def draw_switch(runs: Mapping[str, Run], path: Path, title: str) -> None:
    """Draw score, Q, TD error, KL, saturation and disagreement of runs into one PNG, aligned at the switch.

    Args:
        runs: by the name to show.
    """
    long = max(map(len, runs)) > 60
    with drawn(path, 12, 7 + (0.2 * len(runs) if long else 0)) as figure:
        _draw(figure, runs, title, long)


def _draw(figure: Figure, runs: Mapping[str, Run], title: str, long: bool) -> None:
    axes: Any = figure.subplots(2, 3)
    for axis, (label, keys) in zip(axes.flat, PANELS, strict=True):
        for index, (name, run) in enumerate(runs.items()):
            for key in keys:
                _line(axis, run, key, COLORS[index % len(COLORS)], name)
        axis.axvline(0, color="#555555", linewidth=0.9, linestyle=":")
        axis.set_title(label, loc="left", fontsize=10)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter(FuncFormatter(short_number))
        if not axis.lines[:-1]:
            axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes, color="#888888")
    for axis in axes[1]:
        axis.set_xlabel("← updates of pre-training · environment steps →", fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    if len(runs) > 1:
        figure.legend(
            handles,
            [textwrap.shorten(name, 150, placeholder=" …") for name in names],
            loc="outside lower center",
            ncols=1 if long else min(3, len(runs)),
            frameon=False,
            fontsize=7 if long else 9,
        )
    told = f"{title}; solid: frozen logged batch, dashed: newest transitions"
    figure.suptitle("\n".join(textwrap.wrap(told, 130)), x=0.01, ha="left", fontsize=11)


def _line(axis: Axes, run: Run, key: str, color: str, label: str) -> None:
    points = [(r["step"] - run.switch_step, r[key]) for r in run.records if r.get(key) is not None]
    if points:
        x, y = zip(*points, strict=True)
        marker = "o" if key == "eval/score" else None
        style = "--" if key.startswith("switch/online") else "-"
        axis.plot(x, y, style, color=color, label=label, marker=marker, markersize=3, linewidth=1.3)
