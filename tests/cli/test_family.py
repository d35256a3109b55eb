from __future__ import annotations

import json
from pathlib import Path

import pytest

import balrl
from balrl.cli.main import main
from tests.run.small import SMALL


def test_the_family_of_a_run(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "f.png"), "--out", str(tmp_path / "f.json")]
    assert main(["family", str(whole_run), "--episodes", "2", "--members", "3", "--offline-updates", "3", *out]) == 0
    said = capsys.readouterr().out
    assert "own choice" in said
    assert "fitted Q" in said
    assert (tmp_path / "f.png").stat().st_size > 5_000
    assert len(json.loads((tmp_path / "f.json").read_text())["members"]) == 4


def test_offline_evaluation_and_export_of_a_member(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(whole_run), str(tmp_path / "p.pt"), "--balance", "2"]) == 0
    assert "torch.jit.load" in capsys.readouterr().out
    assert (tmp_path / "p.pt").exists()
    assert main(["evaluate", str(whole_run), "--offline", "--balance", "9"]) == 2
    assert "out of this family's range" in capsys.readouterr().err
    assert main(["evaluate", str(whole_run), "--offline", "--offline-updates", "3"]) == 0
    assert "fitted Q" in capsys.readouterr().out
    assert main(["evaluate", str(whole_run), "--offline", "--offline-updates", "0"]) == 0
    said = capsys.readouterr().out
    assert "variance of Q" in said
    assert "fitted Q" not in said


def test_a_run_without_a_family_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    balrl.train(balrl.load_config("iql/point-maze", settings={**SMALL, "finetune.steps": "0"}), tmp_path / "run")
    assert main(["family", str(tmp_path / "run")]) == 2
    assert "has one policy, not a family" in capsys.readouterr().err
