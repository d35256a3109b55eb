from __future__ import annotations

import csv
import io

from rich.console import Console

from balrl.report.compare import Block, Row
from balrl.report.compare_tables import comparison_csv, comparison_latex, comparison_table, latex_text

BLOCKS = [
    Block("Hopper-v5", [Row("iql, a_b=1", [[1.0, 3.0]], 2.0, (1.0, 3.0), None)], {}),
    Block(
        "Walker2d-v5",
        [
            Row("iql, a_b=1", [[4.0, 6.0]], 5.0, (4.0, 6.0), None),
            Row("[red]wsrl[/red]", [[7.0]], 7.0, (7.0, 7.0), (1.0, 1.0, 1.0)),
        ],
        {},
    ),
]


def test_latex_has_a_method_a_row_and_a_task_a_column() -> None:
    lines = comparison_latex(BLOCKS, "final").splitlines()
    assert lines[1] == r"\begin{tabular}{lrr}"
    assert lines[3] == r"method & Hopper-v5 & Walker2d-v5 \\"
    assert lines[5] == r"iql, a\_b=1 & 2.0 [1.0, 3.0] & 5.0 [4.0, 6.0] \\"
    assert lines[6] == r"[red]wsrl[/red] & -- & 7.0 \\"
    assert latex_text(r"a&b\c_%$#{}~^") == (r"a\&b\textbackslash{}c\_\%\$\#\{\}\textasciitilde{}\textasciicircum{}")


def test_csv_has_every_number() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(BLOCKS, "final"))))
    assert [(row["task"], row["method"], row["runs"]) for row in rows][-1] == ("Walker2d-v5", "[red]wsrl[/red]", "1")
    assert (rows[0]["iqm"], rows[0]["low"], rows[0]["high"], rows[0]["scores"]) == ("2.0", "1.0", "3.0", "1.0 3.0")
    assert rows[2]["low"] == ""  # an interval over one seed would look like certainty
    assert rows[2]["better_than_first"] == "1.0"


def test_the_terminal_shows_names_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(comparison_table(BLOCKS, "final"))
    assert "[red]wsrl[/red]" in out.getvalue()
    assert "one run" in out.getvalue()
    assert out.getvalue().count("P(better than the first)") == 1  # not where there is one method
