"""The one call of whoever may be killed at any time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import balrl
from balrl.errors import UserError
from balrl.run.run_lock import NAME, LockHeld, RunLock
from tests.run.small import Interrupt, final_state, maze_config, records


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.run.pictures.pictures_are_drawn", lambda *_: True)


def assert_equal(one: Path, other: Path) -> None:
    assert records(one) == records(other)
    ours, theirs = final_state(one), final_state(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_called_until_it_is_finished_it_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    balrl.train(maze_config(), tmp_path / "whole")
    config, path = maze_config(), tmp_path / "cut" / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.run_or_resume(path, config, Interrupt(8, crash=True))
    assert not balrl.run_or_resume(path, config, Interrupt(30, crash=False)).finished
    assert balrl.run_or_resume(path, config).finished
    before = (path / "metrics.jsonl").stat().st_mtime_ns
    assert balrl.run_or_resume(path, config).finished
    assert (path / "metrics.jsonl").stat().st_mtime_ns == before
    assert_equal(path, tmp_path / "whole")


def test_who_comes_second_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir()
    lock = RunLock(path)
    with monkeypatch.context() as patch:
        patch.setattr("balrl.run.assemble.assemble", lambda *_, **__: pytest.fail("it loads"))
        with pytest.raises(LockHeld, match="is being written by"):
            balrl.run_or_resume(path, maze_config())
    lock.release()
    assert balrl.run_or_resume(path, maze_config()).finished


def test_a_mistake_leaves_no_directory_and_no_lock(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        balrl.run_or_resume(tmp_path / "run", maze_config(dataset="nowhere.hdf5"))
    assert not (tmp_path / "run").exists()
    balrl.run_or_resume(tmp_path / "run", maze_config())
    with pytest.raises(UserError, match="was started with seed = 0, you ask for 3"):
        balrl.run_or_resume(tmp_path / "run", maze_config(seed="3"))
    assert not (tmp_path / "run" / NAME).exists()


def test_several_together_are_begun_gone_on_with_and_returned(tmp_path: Path) -> None:
    runs = {tmp_path / "a" / f"s{seed}": maze_config(seed=str(seed)) for seed in (0, 1)}
    with pytest.raises(RuntimeError, match="power"):
        balrl.run_or_resume_together(runs, Interrupt(30, crash=True))
    results = balrl.run_or_resume_together(runs)
    assert list(results) == list(runs)
    assert all(result.finished for result in results.values())
    whole = {tmp_path / "b" / path.name: config for path, config in runs.items()}
    balrl.run_or_resume_together(whole)
    for one, other in zip(runs, whole, strict=True):
        assert_equal(one, other)
    assert all(result.finished for result in balrl.run_or_resume_together(runs).values())
    ppo = balrl.load_config("ppo/classic", settings={"tracking.wandb": "off"})
    with pytest.raises(UserError, match="cannot share updates"):
        balrl.run_or_resume_together({tmp_path / "c": ppo})
