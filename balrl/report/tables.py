"""Tables for the terminal."""

from __future__ import annotations

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
    table.add_row("return", f"{data['return_mean']:.1f} ± {data['return_std']:.1f} (standard deviation)")
    if result.reference is not None:
        score = f"{result.normalized_score:.1f} (reference: {result.reference.source})"
        table.add_row("normalised score", Text(score))
    if result.success_rate is not None:
        table.add_row("success", f"{result.success_rate:.0%}")
    table.add_row("length", f"{data['length_mean']:.1f} steps")
    return table
