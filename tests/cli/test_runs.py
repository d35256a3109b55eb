"""Verbs that look at runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main
from tests.report.test_runs import write_run


def test_train_evaluate_resume(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_dir), "--episodes", "3"]) == 0
    shown = capsys.readouterr().out
    assert "normalised score" in shown
    assert "success" in shown
    checkpoint = next((run_dir / "checkpoints").glob("*-end-pretrain"))
    assert main(["evaluate", str(checkpoint), "--episodes", "2", "--balance", "2.0"]) == 0
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert "done:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plot", "run", "--out", "x.txt"], "expected a name that ends in .png"),
        (["plot", "run", "--out", "."], "it is a folder"),
        (["compare", "run", "--out", "none/x.png"], "there is no folder 'none'"),
        (["compare", "run", "--task", "Hoper-v5"], "no run is on the task 'Hoper-v5'"),
        (["compare", "run", "--out", "x.pdf"], "ends in .png or .tex or .csv"),
        (["plot", "nowhere"], "is no balrl run and holds none"),
        (["plot", "damaged"], "'damaged/config.yaml' holds NoneType, expected a mapping"),
        (["data", "convert", "point-maze-mixed", "none/x.hdf5"], "there is no folder 'none'"),
        (["data", "relabel", "absent.hdf5", "x.hdf5", "--success", "a"], "no file at 'absent.hdf5'"),
        (["train", "--preset", "wsrl/point-maze", "init.parts=policy"], "init has settings but no checkpoint"),
    ],
)
def test_mistakes_with_runs_and_files_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), [1.0, 2.0])
    write_run(Path("damaged"), [1.0])
    Path("damaged", "config.yaml").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
