"""The verb that says what to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from balrl.cli.console import make_console
from balrl.cli.data import SOURCE
from balrl.errors import check_target


def add_advise_verb(verbs: Any) -> None:
    """Add ``balrl advise`` to the command line's verbs."""
    advise = verbs.add_parser("advise", help="look at a dataset and say what to begin with, and why")
    advise.add_argument("file", metavar="DATA", help=SOURCE)
    advise.add_argument("--env", help="the task, if it can be played for fine-tuning")
    advise.add_argument("--write", type=Path, metavar="FILE.yaml", help="the configuration, for balrl train --config")
    advise.set_defaults(run=_advise)


def _advise(options: argparse.Namespace, _: list[str]) -> None:
    from rich.markup import escape

    from balrl.checkpoint import write_text
    from balrl.run.advice import advise

    target = check_target(options.write, (".yaml", ".yml")) if options.write else None
    found = advise(options.file, options.env)
    console = make_console()
    for problem in found.problems:
        console.print(f"in the data: {escape(problem)}", style="yellow")
    for reason in found.reasons:
        console.print(f"[bold]{escape(reason.found)}[/bold]")
        console.print(f"  → {escape(reason.therefore)}")
        console.print(f"  [dim]from {escape(reason.evidence)}; not if {escape(reason.unless)}[/dim]")
    console.print(found.command, markup=False, soft_wrap=True)
    if target is not None:
        write_text(target, found.to_yaml())
        console.print(f"wrote {target}; balrl train --config {target}", markup=False, soft_wrap=True)
