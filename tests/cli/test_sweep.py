from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main
from balrl.sweep.folder import FILE, open_sweep
from tests.run.small import SMALL

SETTINGS = [f"{key}={value}" for key, value in SMALL.items()]
IQL = ["sweep", "--preset", "iql/point-maze", *SETTINGS]


def test_a_small_sweep_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "sweep")
    arguments = [*IQL, "--vary", "agent.expectile=0.7,0.9", "--out", out, "--jobs", "1"]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 2 runs are finished, 2 open" in shown
    assert ": iql/point-maze, agent.expectile=0.9, seed=0\n" in shown
    assert not (tmp_path / "sweep").exists()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("finished: iql-PointMaze-v0-s") == 2
    assert "expectile=0.9" in shown
    assert {"compare.png", "compare.csv", FILE, "runs", "attempts", "logs"} == {
        p.name for p in (tmp_path / "sweep").iterdir()
    }
    assert main(["sweep", "status", out]) == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    assert main(["sweep", out]) == 0
    assert "finished: " not in capsys.readouterr().out


@pytest.mark.parametrize("pause", [0.0, 1e9])
def test_what_failed_is_said_and_tried_again(
    pause: float, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balrl.cli.sweep.BETWEEN_LOOKS", pause)  # said during the work, or at its end, and once
    out = str(tmp_path / "sweep")
    assert main([*IQL, "--dataset", "nowhere.hdf5", "--env", "Hopper-v5", "--out", out, "--jobs", "1"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("no dataset file at 'nowhere.hdf5'") == 1
    assert f"1 runs were set aside; try them again with: balrl sweep {out} --again" in shown
    assert main(["sweep", out, "--jobs", "1"]) == 1
    [name] = open_sweep(tmp_path / "sweep").plan
    assert open_sweep(tmp_path / "sweep").standing(name).history.attempts == 1
    assert main(["sweep", out, "--jobs", "1", "--again", "--dry-run"]) == 0
    assert "1 open" in capsys.readouterr().out


def test_out_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "sweep")
    assert main([*IQL, "--out", out, "--jobs", "1", "--max-hours", "0.00001"]) == 130
    assert (
        f"stopped and saved: 0 of 1 runs are finished, 1 open; go on with: balrl sweep {out}" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where to? pass --out DIR"),
        (["--out", "x"], "what is to be run? pass SWEEP.yaml, or --preset PRESET"),
        (["nowhere.yaml", "--out", "x"], "cannot read the configuration 'nowhere.yaml'"),
        (["a.yaml", "b.yaml", "--out", "x"], "one sweep at a time"),
        (["status"], "which sweep? expected one folder"),
        (["nowhere"], "'nowhere' is no sweep"),
        (["nowhere", "--seeds", "0:2"], "'nowhere' has its own sweep.yaml: leave --seeds out"),
        (["--preset", "iql/point-maze", "--out", "x", "agent.expectil=3"], "unknown key 'agent.expectil'"),
        (["--preset", "iql/point-maze", "--out", "x", "--sedes", "0:3"], "unknown key 'sedes'"),
        (["--preset", "iql/point-maze", "--out", "x", "--seeds", "3:1"], "seeds = '3:1'"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
