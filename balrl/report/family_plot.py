"""`family.png`: what every member of a family returns, and what the critics say of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from balrl.report.figures import drawn

PLAIN, CHOSEN, POOLED, ESTIMATES = "#2f6f9f", "#c8553d", "#3a7d44", ("#8a5a9e", "#b8860b")
NAMES = {"mean_q": "mean Q", "conservative_q": "mean − ½ variance of Q", "fitted_q": "fitted Q evaluation"}


def draw_family(
    arms: Sequence[Mapping[str, Any]], path: Path, title: str, value_label: str, chosen: int | None = None
) -> None:
    """Draw arms, each with its mean and interval, above the offline estimates of them.

    Args:
        arms: with ``label``, ``episodes``, ``mean``, ``low``, ``high``, what all say together (``pooled``), and
            the estimates that there are.
        path: of the PNG.
        title: of the picture.
        value_label: what an episode counts.
        chosen: the arm that acts.
    """
    known = [key for key in NAMES if any(arm.get(key) is not None for arm in arms)]
    rows = 2 if known else 1
    with drawn(path, max(6.0, 1.6 + 0.72 * len(arms)), 3.2 + 2.2 * (rows - 1)) as figure:
        axes = figure.subplots(rows, 1, sharex=True, height_ratios=(3, 2)[:rows], squeeze=False)[:, 0]
        _draw_values(axes[0], arms, value_label, chosen)
        if known:
            _draw_estimates(axes[1], arms, known)
        bottom = axes[-1]
        bottom.set_xticks(range(len(arms)), [f"{arm['label']}\n({arm['episodes']})" for arm in arms], fontsize=8)
        bottom.set_xlabel("balance that acts (episodes)")
        axes[0].set_title("\n".join(textwrap.wrap(title, 80)), loc="left", fontsize=11)


def _draw_values(axis: Axes, arms: Sequence[Mapping[str, Any]], label: str, chosen: int | None) -> None:
    for index, arm in enumerate(arms):
        if arm["mean"] is None:
            continue
        colour = CHOSEN if index == chosen else PLAIN
        if arm["low"] is not None:
            axis.plot([index, index], [arm["low"], arm["high"]], color=colour, linewidth=1.6)
        axis.plot(index, arm["mean"], "D" if index == chosen else "o", color=colour, markersize=7)
        if index == chosen:
            axis.annotate("acts", (index, arm["mean"]), (9, 0), textcoords="offset points", color=colour, va="center")
    _draw_pooled(axis, arms)
    axis.set_ylabel(f"mean {label}")
    axis.margins(x=0.05)
    _plain(axis)


def _draw_pooled(axis: Axes, arms: Sequence[Mapping[str, Any]]) -> None:
    """Draw what all episodes together say: a band over the constant members, a bar for each of the others."""
    known = [(index, arm["pooled"], arm) for index, arm in enumerate(arms) if arm.get("pooled")]
    members = [(index, pooled) for index, pooled, arm in known if not arm.get("kept")]
    if members:
        x, band = [index for index, _ in members], [pooled for _, pooled in members]
        axis.fill_between(x, [p["low"] for p in band], [p["high"] for p in band], color=POOLED, alpha=0.15, lw=0)
        axis.plot(x, [p["mean"] for p in band], color=POOLED, linewidth=1.2, label="all episodes together")
        axis.legend(frameon=False, fontsize=8, loc="best")
    for index, pooled, arm in known:
        if arm.get("kept"):
            axis.fill_between([index - 0.2, index + 0.2], pooled["low"], pooled["high"], color=POOLED, alpha=0.15, lw=0)
            axis.plot([index - 0.2, index + 0.2], [pooled["mean"]] * 2, color=POOLED, linewidth=1.2)


def _draw_estimates(axis: Axes, arms: Sequence[Mapping[str, Any]], known: Sequence[str]) -> None:
    for key, colour in zip(known, (*ESTIMATES, "#4f8a4c"), strict=False):
        points = [(index, arm[key]) for index, arm in enumerate(arms) if arm.get(key) is not None]
        members = [(index, value) for index, value in points if not arms[index].get("kept")]
        axis.plot(*zip(*points, strict=True), "s", color=colour, markersize=4, label=NAMES[key])
        if members:
            axis.plot(*zip(*members, strict=True), "--", color=colour, linewidth=0.9)
    axis.set_ylabel("offline estimate")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
