"""balrl front."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import balrl
from balrl.cli.main import main
from tests.run.test_objectives import config


def test_the_front_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert balrl.train(config(), run).finished
    out = ["--out", str(tmp_path / "f.png"), "--out", str(tmp_path / "f.json")]
    assert main(["front", str(run), "--episodes", "1", "--preferences", "3", "--reference=-30,-30", *out]) == 0
    said = capsys.readouterr().out
    assert "hypervolume above (-30, -30)" in said
    assert "0.50, 0.50" in said
    assert (tmp_path / "f.png").stat().st_size > 5_000
    data = json.loads((tmp_path / "f.json").read_text())
    assert data["reference"] == [-30, -30]
    assert len(data["fronts"]["run"]["front"]) == 3
    assert main(["evaluate", str(run), "--episodes", "1", "--preference", "1,0"]) == 0
    assert "reward 2" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--episodes", "1", "--preference", "1,0,0"]) == 2
    assert "expected (2,), one weight per reward" in capsys.readouterr().err
    assert main(["front", str(run), "--episodes", "1", "--reference=1,2,3"]) == 2
    assert "reference has 3 numbers, expected 2" in capsys.readouterr().err
    film = str(tmp_path / "v.gif")
    assert main(["evaluate", str(run), "--episodes", "1", "--preference", "1,0", "--video", film]) == 0
    assert main(["export", str(run), str(tmp_path / "p.pt"), "--preference", "1,0"]) == 0
    assert main(["export", str(run), str(tmp_path / "p.pt"), "--preference", "1"]) == 2
    assert "expected (2,), one weight per reward" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["front", str(run), "--reference=a,b"])
    assert ended.value.code == 2
