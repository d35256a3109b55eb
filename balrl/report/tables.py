"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from balrl.data.dataset import Dataset
from balrl.data.inspect import Description
from balrl.evaluation import Evaluation


def dataset_table(dataset: Dataset, description: Description) -> RenderableType:
    """Return the table of ``balrl data info``, warnings below it."""
    table = Table(title=Text(dataset.name), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for row in description.rows:
        table.add_row(*map(Text, row))
    return Group(table, *(Text(f"warning: {text}", style="yellow") for text in description.warnings))


def evaluation_table(result: Evaluation) -> RenderableType:
    """Return the table of ``balrl evaluate``."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    data = result.to_json()
    table.add_row("episodes", f"{len(result.returns)} (environment seed {result.seed})")
    name = "return" if result.return_vectors is None else "utility"
    table.add_row(name, f"{data['return_mean']:.1f} ± {data['return_std']:.1f} (standard deviation)")
    if result.return_vectors is not None:
        for index, mean in enumerate(np.mean(result.return_vectors, 0)):
            table.add_row(f"reward {index + 1}", f"{mean:.1f}")
    if result.reference is not None:
        score = f"{result.normalized_score:.1f} (reference: {result.reference.source})"
        table.add_row("normalised score", Text(score))
    if result.success_rate is not None:
        table.add_row("success", f"{result.success_rate:.0%}")
    table.add_row("length", f"{data['length_mean']:.1f} steps")
    return table


def front_table(records: Mapping[str, Mapping[str, Any]], reference: Sequence[float] | None) -> RenderableType:
    """Return the tables of ``balrl front``: what every preference returned, and the numbers that sum each front up."""
    points = Table(box=None, pad_edge=False)
    for name in ("front", "preference", "returns", "utility", ""):
        points.add_column(name, justify="right" if name == "utility" else "left")
    numbers = Table(box=None, pad_edge=False)
    above = f"hypervolume above ({', '.join(f'{x:g}' for x in reference)})" if reference else "hypervolume"
    for name in ("front", above, "expected utility", "best utility", "sparsity"):
        numbers.add_column(name, justify="left" if name == "front" else "right")
    for name, record in records.items():
        for point in record["front"]:
            w, v = point["preference"], point["return"]
            utility = sum(a * b for a, b in zip(w, v, strict=True))
            weights, returns = (", ".join(f"{x:{kind}}" for x in row) for row, kind in ((w, ".2f"), (v, ".1f")))
            points.add_row(Text(name), weights, returns, f"{utility:.1f}", "" if point["efficient"] else "dominated")
        volume = f"{record['hypervolume']:,.4g}" if reference else "give --reference"
        rest = (f"{record[key]:.4g}" for key in ("expected_utility", "best_utility", "sparsity"))
        numbers.add_row(Text(name), volume, *rest)
    return Group(points, Text(""), numbers)


def family_table(records: Sequence[Mapping[str, Any]], correlations: Mapping[str, float]) -> RenderableType:
    """Return the table of ``balrl family``: members, their returns, and the offline estimates of them."""
    estimates = {"mean_q": "mean Q", "conservative_q": "mean − ½ var", "fitted_q": "fitted Q"}
    known = [key for key in estimates if all(key in record for record in records)]
    success = any(record["success_rate"] is not None for record in records)
    table = Table(box=None, pad_edge=False)
    for name in (
        "balance",
        "return",
        "95 %",
        "score",
        *(["success"] if success else []),
        *(estimates[k] for k in known),
    ):
        table.add_column(name, justify="left" if name == "balance" else "right")
    for record in records:
        interval = "" if record["low"] is None else f"[{record['low']:.1f}, {record['high']:.1f}]"
        rate = [f"{record['success_rate']:.0%}"] if success else []
        values = [f"{record[key]:.2f}" for key in known]
        cells = (record["label"], f"{record['mean']:.1f}", interval, f"{record['score']:.1f}", *rate, *values)
        table.add_row(*map(Text, cells))
    said = ", ".join(f"{estimates[key]} {value:+.2f}" for key, value in correlations.items())
    return Group(table, Text(f"rank correlation with the returns: {said}")) if said else table


def offline_table(estimates: Mapping[str, float]) -> RenderableType:
    """Return the table of ``balrl evaluate --offline``."""
    names = {
        "mean_q": "mean Q, logged states",
        "conservative_q": "mean − ½ variance of Q",
        "fitted_q": "fitted Q evaluation, first states",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key, value in estimates.items():
        table.add_row(names[key], f"{value:.3f}")
    return table
