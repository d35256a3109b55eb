"""`balrl advise`."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main


def test_it_says_what_why_and_where_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    assert main(["advise", "point-maze-mixed", "--write", str(file)]) == 0
    out = capsys.readouterr().out
    assert "balrl train --preset iql/point-maze" in out
    assert "docs/results/spine.md" in out
    assert "not if" in out
    assert file.exists()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["nothing.hdf5"],
        ["point-maze-mixed", "--write", "run.txt"],
        ["point-maze-mixed", "--env", "No"],
    ):
        assert main(["advise", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("balrl: ")
        assert err.count("\n") == 1
