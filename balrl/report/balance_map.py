"""`balance_map.png`: the balance that each place of a maze gets, beside where the data was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from balrl.report.figures import drawn

Array = NDArray[Any]


def draw_balance_map(
    path: Path,
    walls: Array,
    goal: tuple[float, float],
    balance: Array,
    coverage: Array,
    bounds: tuple[float, float],
) -> None:
    """Draw two maps of a maze into a PNG.

    Args:
        walls: ``[rows, columns]`` bool.
        goal: its position (x, y) in cells.
        balance: ``[rows · k, columns · k]``, the chosen balance on a grid k times finer than the cells.
        coverage: of the same shape, transitions of the data at each place; all zeros if there was no data.
        bounds: smallest and largest balance of the family.
    """
    with drawn(path, 10, 4.8) as figure:
        _draw(figure, walls, goal, balance, coverage, bounds)


def _draw(
    figure: Figure,
    walls: Array,
    goal: tuple[float, float],
    balance: Array,
    coverage: Array,
    bounds: tuple[float, float],
) -> None:
    left, right = figure.subplots(1, 2)
    extent = (0.0, float(walls.shape[1]), float(walls.shape[0]), 0.0)
    blocked = np.kron(walls, np.ones(np.array(balance.shape) // np.array(walls.shape))).astype(bool)
    shown = left.imshow(
        np.ma.masked_array(balance, blocked), extent=extent, cmap="viridis", vmin=bounds[0], vmax=bounds[1]
    )
    figure.colorbar(shown, ax=left, shrink=0.85, label="balance: constraint ← → improvement")
    left.set_title("balance chosen per position (at rest)", loc="left", fontsize=11)
    counts = np.ma.masked_array(np.log10(1 + coverage), blocked)
    shown = right.imshow(counts, extent=extent, cmap="magma")
    figure.colorbar(shown, ax=right, shrink=0.85, label="log₁₀(1 + transitions)")
    right.set_title("where the data was", loc="left", fontsize=11)
    for axis in (left, right):
        _draw_maze(axis, walls, goal, extent)


def _draw_maze(axis: Axes, walls: Array, goal: tuple[float, float], extent: tuple[float, float, float, float]) -> None:
    axis.imshow(np.ma.masked_array(np.ones(walls.shape), ~walls), extent=extent, cmap=ListedColormap(["#d9dde1"]))
    axis.plot(*goal, marker="*", markersize=15, color="#ffd34d", markeredgecolor="#333333")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
