"""``balrl report``: where the page goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main
from tests.report.test_runs import write_run


def test_beside_the_run_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = write_run(tmp_path / "runs" / "a", [1.0, 2.0])
    write_run(tmp_path / "runs" / "b", [1.0, 3.0])
    assert main(["report", str(one), "--no-lint"]) == 0
    assert (one / "report.html").exists()
    assert main(["report", "runs", "--no-lint"]) == 0
    assert Path("report.html").exists()
    assert main(["report", "runs", "--no-lint", "--out", "c.html"]) == 0
    assert "wrote c.html: " in capsys.readouterr().out
    assert main(["report", "nothing"]) == 2
    assert "is no balrl run" in capsys.readouterr().err
