"""The verbs that look at runs: evaluate, plot, compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from balrl.errors import UserError


def evaluate(options: argparse.Namespace) -> None:
    """``balrl evaluate``: score a policy and print a table."""
    from rich.console import Console

    from balrl.api import evaluate
    from balrl.report.tables import evaluation_table

    result = evaluate(
        options.path,
        options.env,
        episodes=options.episodes,
        seed=options.seed,
        device=options.device,
        balance=options.balance,
    )
    Console().print(evaluation_table(result))


def plot(options: argparse.Namespace) -> None:
    """``balrl plot``: draw runs aligned at the switch."""
    from balrl.report.runs import labels, read_runs
    from balrl.report.switch_plot import draw_switch

    runs = read_runs(options.runs)
    named = {}
    for method, group in labels(runs).items():
        for run in group:
            name = f"{method}, seed {run.config['seed']}" if len(runs) > 1 else method
            named[name if name not in named else f"{name} ({run.path.name})"] = run
    target = _target(options.out, runs[0].path / "switch.png" if len(runs) == 1 else Path("switch.png"))
    tasks = ", ".join(dict.fromkeys(run.task for run in runs))
    draw_switch(named, target, tasks)
    print(f"wrote {target}")


def compare(options: argparse.Namespace) -> None:
    """``balrl compare``: a table of methods, and a picture."""
    from rich.console import Console

    from balrl.report.compare import compare, comparison_table, draw_comparison
    from balrl.report.runs import labels, read_runs

    groups = labels(read_runs(options.runs))
    if len(groups) < 2:
        raise UserError(f"these runs are all of one method ({next(iter(groups))}); give runs of at least two")
    rows = compare(groups, options.metric)
    Console().print(comparison_table(rows, options.metric))
    target = _target(options.out, Path("compare.png"))
    draw_comparison(groups, rows, options.metric, target)
    print(f"wrote {target}")


def _target(given: Path | None, default: Path) -> Path:
    target = given or default
    if not target.parent.is_dir():
        raise UserError(f"cannot write '{target}': there is no folder '{target.parent}'")
    return target
