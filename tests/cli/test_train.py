"""`balrl train`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from balrl.cli.main import main
from balrl.cli.train import parse_settings
from balrl.errors import UserError
from tests.cli.small import TINY


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    arguments = [
        "train",
        "--preset",
        "iql/point-maze",
        "--run-dir",
        str(tmp_path / "r"),
        *TINY,
        "pretrain.updates=1000000",
    ]
    process = subprocess.Popen([sys.executable, "-m", "balrl", *arguments], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "evaluations.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 130
    assert f"balrl train --resume {tmp_path / 'r'}" in out
    assert list((tmp_path / "r" / "checkpoints").glob("*/state.json"))


def test_an_unwritable_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can write everywhere")
    tmp_path.chmod(0o500)
    assert main(["train", "--preset", "iql/point-maze", "--run-dir", str(tmp_path / "r"), *TINY]) == 2
    assert "cannot write to the run directory" in capsys.readouterr().err


def test_settings_in_every_spelling() -> None:
    parsed = parse_settings(["a.b=1", "--c=2", "--d", "3", "run.e-f=x=y", "--g", "-1"])
    assert parsed == {"a.b": "1", "c": "2", "d": "3", "run.e_f": "x=y", "g": "-1"}
    for bad in (["--seed"], ["word"], ["--seed", "--other=1"]):
        with pytest.raises(UserError, match="has no value"):
            parse_settings(bad)


def test_runs_are_named_after_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = [
        "pretrain.updates=2",
        "evaluation.episodes=1",
        "tracking.wandb=off",
        "agent.hidden=[8]",
        "finetune.steps=0",
    ]
    assert main(["train", "--preset", "famo2o-iql/point-maze", *short]) == 0
    assert [p.name.rpartition("-s0-")[0] for p in (tmp_path / "runs").iterdir()] == ["famo2o-iql-PointMaze-v0"]
