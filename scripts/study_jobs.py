"""What the studies share: options, running one job in a process of its own, its summary, cells and pages of results."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balrl.evaluation import bootstrap_interval


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


def finished_summary(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a run; None if it is not finished."""
    file = run_dir / "summary.json"
    summary: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"finished": False}
    return summary if summary["finished"] else None


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


def train_or_resume(path: Path, preset: str, settings: Mapping[str, str]) -> int:
    """Train a preset with settings into `path`, or go on with what stands there; return the exit code."""
    if (path / "config.yaml").exists():
        arguments = ["--resume", str(path)]
    else:
        arguments = ["--preset", preset, "--run-dir", str(path), *(f"{key}={value}" for key, value in settings.items())]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "balrl", "train", *arguments]
        return subprocess.run(command, stdout=log, stderr=log, check=False).returncode
