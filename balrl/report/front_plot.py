"""`front.png`: what preferences over several rewards return, a panel for every pair of rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes

from balrl.front import Front
from balrl.report.figures import drawn

COLOURS = ("#2f6f9f", "#c8553d", "#3a7d44", "#8a5a9e", "#b8860b", "#5f6b73")
MOST = 6
"""Pairs of rewards that are drawn."""


def draw_fronts(fronts: Mapping[str, Front], path: Path, reference: Sequence[float] | None = None) -> None:
    """Draw fronts over each other: points by preference, those that others dominate hollow.

    Args:
        fronts: by name, of equally many rewards.
        path: of the PNG.
        reference: point of the hypervolume, drawn where it is near.
    """
    dim = next(iter(fronts.values())).points.shape[1]
    pairs = list(combinations(range(dim), 2))[:MOST]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    with drawn(path, 1.2 + 4.6 * columns, 0.6 + 3.8 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, (x, y) in zip(panels, pairs, strict=False):
            for (name, front), colour in zip(fronts.items(), COLOURS * len(fronts), strict=False):
                _draw(panel, front, name, colour, x, y, dim == 2)
            if reference is not None:
                _draw_reference(panel, reference[x], reference[y])
            panel.set_xlabel(f"return of reward {x + 1}")
            panel.set_ylabel(f"return of reward {y + 1}")
            panel.grid(alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        for empty in panels[len(pairs) :]:
            empty.set_axis_off()
        panels[0].legend(frameon=False, fontsize=8, loc="best")


def _draw(panel: Axes, front: Front, name: str, colour: str, x: int, y: int, joined: bool) -> None:
    best, others = front.points[front.is_efficient], front.points[~front.is_efficient]
    if joined:
        best = best[best[:, x].argsort()]
        panel.plot(best[:, x], best[:, y], "-", color=colour, linewidth=1.0, alpha=0.6)
    panel.plot(best[:, x], best[:, y], "o", color=colour, markersize=5, label=name)
    panel.plot(others[:, x], others[:, y], "o", color=colour, markersize=5, fillstyle="none")
    if joined and len(front.points) <= 12:
        for w, point in zip(front.preferences, front.points, strict=True):
            panel.annotate(
                f"{w[x]:.2g}", (point[x], point[y]), (4, 4), textcoords="offset points", fontsize=6.5, color=colour
            )


def _draw_reference(panel: Axes, x: float, y: float) -> None:
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    if left - (right - left) < x < right and bottom - (top - bottom) < y < top:
        panel.plot(x, y, "x", color="#5f6b73", markersize=6, label="reference point")
