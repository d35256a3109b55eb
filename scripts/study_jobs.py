"""Running one job of a study: a run directory, trained or resumed in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def train_or_resume(path: Path, preset: str, settings: Mapping[str, str]) -> int:
    """Train a preset with settings into `path`, or go on with what stands there; return the exit code."""
    if list(path.glob("checkpoints/*/state.json")):
        arguments = ["--resume", str(path)]
    else:
        arguments = ["--preset", preset, "--run-dir", str(path), *(f"{key}={value}" for key, value in settings.items())]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "balrl.cli", "train", *arguments]
        return subprocess.run(command, stdout=log, stderr=log, check=False).returncode
