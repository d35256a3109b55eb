"""``balrl report``: runs as a page to share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from balrl.cli.console import make_console


def add_report_verb(verbs: Any) -> None:
    """Add ``balrl report`` to the command line's verbs."""
    report = verbs.add_parser("report", help="one HTML file about runs, to share: no network is needed to read it")
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default: RUN/report.html, or report.html")
    report.add_argument("--film", action="store_true", help="film an episode of every run that has no film yet")
    report.add_argument("--no-lint", action="store_true", help="do not check the runs' data")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.run.html_report import write_report

    one = len(options.runs) == 1 and (options.runs[0] / "config.yaml").is_file()
    default = options.runs[0] / "report.html" if one else Path("report.html")
    with make_console().status("reading") as status:
        out = write_report(options.runs, options.out or default, not options.no_lint, options.film, status.update)
    print(f"wrote {out}: {out.stat().st_size / 1e3:,.0f} kB")
