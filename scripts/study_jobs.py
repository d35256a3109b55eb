"""What the studies share: options, their runs as a sweep, cells and pages of results."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import balrl
from balrl.evaluation import bootstrap_interval
from balrl.run.presets import TrainConfig
from balrl.settings import validate
from balrl.sweep.folder import begin_sweep
from balrl.sweep.local import LocalWorkers
from balrl.sweep.plan import make_plan
from balrl.sweep.spec import SweepConfig


def parse_options(
    description: str | None, out: str, parts: Sequence[str], data: str, methods: Sequence[str] = ()
) -> argparse.Namespace:
    """Return the options of a study; `data` says what --data is for, `methods` what --methods can choose from."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=data)
    parser.add_argument("--full", action="store_true", help="the fuller matrix, for a GPU")
    jobs = 1 if shutil.which("nvidia-smi") else 2  # two would take turns on one GPU
    parser.add_argument("--jobs", type=int, default=jobs, help="runs side by side; default: 2, with a GPU 1")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts), help="which parts to run")
    if methods:
        parser.add_argument("--methods", nargs="+", choices=list(methods), help="only these; default: all")
    parser.add_argument("--report-only", action="store_true", help="make the tables and pictures of what is there")
    return parser.parse_args()


def cell(values: Sequence[float]) -> str:
    """Return mean and 95 % bootstrap interval of one number per seed, for a table; no interval for one seed."""
    if not values:
        return "—"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    low, high = bootstrap_interval([values], np.mean)
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}]"


def write_between_marks(page: Path, lines: Sequence[str], name: str = "measured") -> None:
    """Replace what stands between a page's marks ``<!-- name -->`` and ``<!-- /name -->``."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = page.read_text(encoding="utf-8").split(start)
    after = rest.split(end)[1]
    page.write_text(f"{before}{start}\n\n" + "\n".join(lines) + f"\n{end}{after}", encoding="utf-8")
    print(f"wrote {page.name}")


class Run(NamedTuple):
    """One run of a study.

    Attributes:
        preset: it begins from.
        settings: over it, dotted.
        source: label of the run whose policy it starts from.
    """

    preset: str
    settings: Mapping[str, Any]
    source: str | None = None


def run_sweep(out: Path, runs: Mapping[str, Run], jobs: int, finished: Callable[[str, Path], None]) -> None:
    """Make what is left of some runs as a sweep, and hand each over once, as soon as it is finished.

    Args:
        out: folder of the sweep; what was finished there before is handed over, too.
        runs: by label.
        jobs: side by side.
        finished: called with the label and the run directory.
    """
    if not runs:
        return
    given = _as_sweep(runs)
    folder = begin_sweep(out, validate(SweepConfig, given, "the study"), given)
    labels: dict[str, list[str]] = {name: [planned.labels["preset"]] for name, planned in folder.plan.items()}
    for label in runs.keys() - {first for [first] in labels.values()}:  # the same run as another of the study
        alone = {key: run for key, run in runs.items() if key in (label, runs[label].source)}
        own = validate(SweepConfig, _as_sweep(alone), "the study")
        name = next(
            n for n, p in make_plan(own, folder.path / "runs", folder.root).items() if p.labels["preset"] == label
        )
        labels[name].append(label)
    handed: set[str] = set()

    def look() -> None:
        for name in folder.plan:
            if name not in handed and folder.is_finished(name):
                handed.add(name)
                for label in labels[name]:
                    finished(label, folder.run_dir(name))
                    print(f"done: {label}", flush=True)

    LocalWorkers(folder, jobs).run(look)
    look()
    for name, standing in folder.standings().items():
        if standing.state != "finished":
            print(f"{standing.state}: {folder.plan[name].labels['preset']}: {standing.history.error}", flush=True)


def _as_sweep(runs: Mapping[str, Run]) -> dict[str, Any]:
    sources = {run.source for run in runs.values() if run.source}
    entries = {
        label: {"preset": run.preset, **({"from": run.source} if run.source else {}), **run.settings}
        for label, run in runs.items()
    }
    return {
        "presets": {label: entry for label, entry in entries.items() if label not in sources},
        "pretrain": {label: entry for label, entry in entries.items() if label in sources},
    }


def train_through(path: Path, config: TrainConfig) -> None:
    """Train a run to its end, or go on with it; leave the study if it was told to stop: part of a run is no result."""
    if not balrl.run_or_resume(path, config).finished:
        raise SystemExit(f"stopped in '{path}': call it again to go on")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return what a study has measured so far, a record per line; nothing if there is no such file yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_line(file: Path, record: Mapping[str, Any]) -> None:
    """Keep a record at once, so that a study that stops goes on from there."""
    with file.open("a") as lines:
        lines.write(json.dumps(record) + "\n")


def summary_of(run_dir: Path) -> dict[str, Any]:
    """Return the summary of a finished run."""
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return summary
