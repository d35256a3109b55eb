"""Run directories: what is in them, when they are refused, and how they are opened again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.errors import UserError
from balrl.run.components import Components
from balrl.watch.tracking import read_metrics
from tests.run.small import (
    Interrupt,
    Listening,
    final_state,
    maze_config,
)


def test_nothing_written_is_lost_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**{"checkpoint.every": "1000"}), path, Interrupt(71, crash=True))
    before = read_metrics(path / "metrics.jsonl")
    balrl.resume(path)
    kept, discarded = read_metrics(path / "metrics.jsonl"), read_metrics(path / "metrics.discarded.jsonl")
    assert all(record in kept or record in discarded for record in before)
    assert discarded


def test_a_run_directory_holds_everything(whole_run: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "metrics.csv", "evaluations.json", "summary.json", "curves.png",
                 "balance_map.png", "checkpoints"):  # fmt: skip
        assert (whole_run / name).exists(), name
    assert not [p for p in whole_run.rglob(".*") if p.name != ".wandb"]
    assert not list(whole_run.rglob("*.pt")) + list(whole_run.rglob("*.pkl"))
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["finished"]
    assert summary["seed"] == 0
    assert summary["final"]["success_rate"] is not None
    assert summary["best"]["score"] >= summary["final"]["score"]
    assert set(summary["wall_seconds"]) == {"pretrain", "warmup", "finetune", "evaluation"}
    assert summary["versions"]["torch"] == torch.__version__
    steps = [record["step"] for record in read_metrics(whole_run / "metrics.jsonl")]
    assert steps == sorted(steps)
    header = (whole_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"step", "phase", "eval/score", "critic/loss", "balance/mean"} <= set(header)


def test_resume_refuses_another_configuration_and_other_data(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"started with agent\.expectile = 0\.7, you ask for 0\.5"):
        balrl.resume(whole_run, maze_config(**{"agent.expectile": "0.5"}))
    with pytest.raises(UserError, match="no balrl run"):
        balrl.resume(tmp_path)
    with pytest.raises(UserError, match="already holds a run"):
        balrl.train(maze_config(), whole_run)


def test_resuming_a_finished_run_changes_nothing(whole_run: Path) -> None:
    before = {p: p.read_bytes() for p in whole_run.rglob("*") if p.is_file()}
    assert balrl.resume(whole_run).finished
    assert {p: p.read_bytes() for p in whole_run.rglob("*") if p.is_file()} == before


def test_a_run_killed_before_its_summary_gets_one_on_resume(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert balrl.resume(tmp_path / "run").finished
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["final"] == json.loads((whole_run / "summary.json").read_text())["final"]


def test_a_damaged_checkpoint_is_passed_over(whole_run: Path, tmp_path: Path) -> None:
    display = Listening()
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(), tmp_path / "run", Interrupt(51, crash=True))
    newest = list_checkpoints(tmp_path / "run")[0]
    file = newest / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    assert balrl.resume(tmp_path / "run", display=display).finished
    assert f"checkpoint {newest.name} is passed over" in display.heard
    for key, value in final_state(whole_run).items():
        assert torch.equal(final_state(tmp_path / "run")[key], value), key


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset file"):
        balrl.train(maze_config(dataset="absent.hdf5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert balrl.train(maze_config(), tmp_path / "run").finished


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Stopped by the code before its modules were sorted into rooms, and run to its end by it as well."""
    earlier = Path(__file__).with_name("before_rooms")
    shutil.copytree(earlier, tmp_path / "run")
    expected = load_file(tmp_path / "run" / "expected.safetensors")
    assert balrl.resume(tmp_path / "run").finished
    for name, value in load_tensors(list_checkpoints(tmp_path / "run")[0], "agent").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("fails", [False, True])
def test_environments_are_closed_however_a_run_ends(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    close = Components.close
    monkeypatch.setattr(Components, "close", lambda self: closed.append(1) or close(self))
    if fails:
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(maze_config(), tmp_path / "run", Interrupt(8, crash=True))
    else:
        balrl.train(maze_config(), tmp_path / "run")
    assert closed == [1]
