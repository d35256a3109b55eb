"""`summary.json`: what ran, on what, and how it came out."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from balrl.checkpoint import write_json
from balrl.report.runs import method_of
from balrl.report.switch import switch_report
from balrl.run.state import RunState

PACKAGES = ("balrl", "torch", "gymnasium", "mujoco", "numpy", "gymnasium-robotics", "stable-baselines3")


def write_summary(run_dir: Path, identity: Mapping[str, Any], state: RunState, outcome: str) -> dict[str, Any]:
    """Write ``summary.json`` and return its contents.

    Args:
        identity: configuration, task and data of the run, as plain JSON types.
        outcome: finished, interrupted (and saved), diverged or failed.
    """
    config = identity["config"]
    short = (
        "step",
        "phase",
        "score",
        "normalized_score",
        "return_mean",
        "success_rate",
        "episodes",
        "reference",
        "learner",
    )
    evaluations = [{key: record[key] for key in short if key in record} for record in state.evaluations]
    summary = {
        "finished": outcome == "finished",
        "outcome": outcome,
        "phase": state.phase,
        "env": config["env"],
        "task_fingerprint": identity["task"]["fingerprint"],
        "dataset": config["dataset"],
        "dataset_fingerprint": identity["dataset_fingerprint"],
        "method": method_of(config),
        "agent": config["agent"]["name"],
        "seed": config["seed"],
        "precision": config["precision"],
        "updates": state.updates,
        "env_steps": state.env_steps,
        "warmup_steps": state.warmup_steps,
        "final": evaluations[-1] if evaluations else None,
        "best": max(evaluations, key=_score) if evaluations else None,
        "switch": switch_report(state.evaluations),
        "selection": None if "winner" not in state.selection else state.selection,
        "champion": {key: value for key, value in state.champion.items() if key != "state"} or None,
        "findings": state.findings,
        "rollbacks": state.rollbacks,
        "wall_seconds": {k: round(v, 2) for k, v in state.seconds.items() if k != "done"},
        "git_commit": git_commit(Path(__file__).resolve().parents[2]),
        "versions": {"python": platform.python_version(), **versions()},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    write_json(run_dir / "summary.json", summary)
    return summary


def _score(evaluation: Mapping[str, Any]) -> float:
    score = evaluation["score"]
    return float(score) if score is not None and math.isfinite(score) else -math.inf


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that a result depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(root: Path) -> str | None:
    """Return the commit of the checkout at `root`, with ``-dirty`` for local changes; None outside one."""
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
