"""`summary.json`."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import torch

from balrl.run.state import RunState
from balrl.run.summary import git_commit, versions, write_summary

IDENTITY = {
    "config": {"env": "E-v0", "dataset": None, "agent": {"name": "iql"}, "seed": 3, "precision": "float32"},
    "task": {"fingerprint": "t"},
    "dataset_fingerprint": "f",
}


def evaluation(step: int, score: float, env_steps: int = 0) -> dict[str, Any]:
    rest = dict.fromkeys(("normalized_score", "return_mean", "success_rate", "episodes", "reference"))
    return {"step": step, "phase": "pretrain", "score": score, "env_steps": env_steps, **rest, "returns": [1.0]}


def test_best_is_the_highest_finite_score_and_final_the_last(tmp_path: Path) -> None:
    scores = (1.0, 7.0, math.nan, math.inf, 3.0)
    state = RunState(evaluations=[evaluation(i, score) for i, score in enumerate(scores)], phase="done")
    summary = write_summary(tmp_path, IDENTITY, state, "finished")
    assert (summary["best"]["score"], summary["final"]["score"], summary["finished"]) == (7.0, 3.0, True)
    assert "returns" not in summary["final"]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["best"], written["agent"], written["seed"]) == (summary["best"], "iql", 3)
    assert (written["method"], written["task_fingerprint"], written["dataset_fingerprint"]) == ("iql", "t", "f")
    assert written["precision"] == "float32"


def test_a_run_that_never_evaluated_has_a_summary_too(tmp_path: Path) -> None:
    summary = write_summary(tmp_path, IDENTITY, RunState(seconds={"pretrain": 1.234, "done": 9.0}), "interrupted")
    assert (summary["final"], summary["best"], summary["switch"], summary["finished"]) == (None, None, None, False)
    assert summary["wall_seconds"] == {"pretrain": 1.23}


def test_versions_are_those_that_run() -> None:
    assert versions()["torch"] == torch.__version__


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")[:12] + "-dirty"
