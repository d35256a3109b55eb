"""The table of `balrl compare`: for the terminal, for LaTeX, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from balrl.report.compare import Block, Row

ESCAPED = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def comparison_table(blocks: Sequence[Block], metric: str) -> RenderableType:
    """Return the table for a terminal, one below the other for several tasks."""
    return Group(*(_table(block, metric) for block in blocks))


def comparison_latex(blocks: Sequence[Block], metric: str) -> str:
    """Return a ``tabular`` for LaTeX with the package booktabs: a method a row, a task a column."""
    methods = list(dict.fromkeys(row.method for block in blocks for row in block.rows))
    cells = {(block.title, row.method): _cell(row) for block in blocks for row in block.rows}
    lines = [
        f"% {metric}: interquartile mean over seeds, 95 % stratified bootstrap interval; balrl compare",
        rf"\begin{{tabular}}{{l{'r' * len(blocks)}}}",
        r"\toprule",
        " & ".join(["method", *(latex_text(block.title) for block in blocks)]) + r" \\",
        r"\midrule",
    ]
    lines += [
        " & ".join([latex_text(method), *(cells.get((block.title, method), "--") for block in blocks)]) + r" \\"
        for method in methods
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def comparison_csv(blocks: Sequence[Block], metric: str) -> str:
    """Return one line for every method on every task, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("better_than_first", "better_low", "better_high")
    writer.writerow(["task", "method", "metric", "runs", "iqm", "low", "high", *names, "scores"])
    for block in blocks:
        for row in block.rows:
            interval = row.interval if row.is_repeated else ("", "")
            better = row.improvement or ("", "", "")
            scores = " ".join(repr(float(x)) for task in row.scores for x in task)
            writer.writerow([block.title, row.method, metric, row.count, row.iqm, *interval, *better, scores])
    return out.getvalue()


def latex_text(text: str) -> str:
    """Return text as LaTeX shows it."""
    return "".join(ESCAPED.get(character, character) for character in text)


def _cell(row: Row) -> str:
    interval = f" [{row.interval[0]:.1f}, {row.interval[1]:.1f}]" if row.is_repeated else ""
    return f"{row.iqm:.1f}{interval}"


def _table(block: Block, metric: str) -> Table:
    table = Table(title=Text(block.title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    for name in ("runs", f"{metric}, IQM", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(block.rows) > 1:
        table.add_column("P(better than the first)", justify="right")
    for row in block.rows:
        interval = "[{:.1f}, {:.1f}]".format(*row.interval) if row.is_repeated else "one run"
        better = ["—"]
        if row.improvement is not None:
            repeated = row.is_repeated and block.rows[0].is_repeated
            better = [("{:.2f} [{:.2f}, {:.2f}]" if repeated else "{:.2f}").format(*row.improvement)]
        cells = [str(row.count), f"{row.iqm:.1f}", interval, *(better if len(block.rows) > 1 else [])]
        table.add_row(Text(row.method), *map(Text, cells))
    return table
