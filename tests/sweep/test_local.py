"""Processes of a sweep, killed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.sweep import local as module
from balrl.sweep.folder import SweepFolder, open_sweep
from balrl.sweep.local import LocalWorkers, _shares, visible_gpus
from balrl.sweep.work import work
from balrl.watch.display import Display
from tests.run.test_run_or_resume import assert_equal
from tests.sweep.small import small_sweep

ALONE = {"seeds": [0], "presets": {"IQL": {"preset": "iql/point-maze"}}}


@pytest.mark.slow
def test_killed_processes_are_replaced_and_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    folder, undisturbed = small_sweep(tmp_path / "a"), small_sweep(tmp_path / "b", seeds=[0])
    workers = LocalWorkers(folder, 2)
    kills: list[str] = []

    def kill_one() -> None:
        """One while it runs something for the first time; another that is idle or not."""
        running = [name for name, s in folder.standings().items() if s.state == "running" and name not in kills]
        if running and len(kills) < 2:
            os.kill(int(folder.standing(running[0]).holder.split()[1]), signal.SIGKILL)
            kills.append(running[0])

    assert workers.run(kill_one)
    assert len(kills) == 2
    assert {s.state for s in folder.standings().values()} == {"finished"}
    for name in kills:
        assert folder.standing(name).history.attempts == 2
    assert work(undisturbed, Display())
    for name in undisturbed.plan:
        assert_equal(folder.run_dir(name), undisturbed.run_dir(name))


LONG = {
    "pretrain.updates": 1_000_000,
    "evaluation.episodes": 1,
    "tracking.wandb": "off",
    "tracking.log_every": 10,
    "threads": 1,
}


def test_interrupted_or_out_of_time_all_is_saved(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE, settings=LONG)
    [name] = folder.plan
    workers = LocalWorkers(folder, 1)

    def interrupt() -> None:
        if (folder.run_dir(name) / "metrics.jsonl").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.run(interrupt)
    assert workers.processes == {}
    standing = folder.standing(name)
    assert (standing.state, standing.history.failures) == ("open", 0)
    assert list((folder.run_dir(name) / "checkpoints").iterdir())
    assert not workers.run(lambda: None, until=time.monotonic())


@pytest.mark.slow
def test_processes_stop_when_who_started_them_is_gone(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE, settings=LONG)
    command = [sys.executable, "-m", "balrl", "sweep", str(folder.path), "--jobs", "1"]
    [name] = folder.plan
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        wait_until(lambda: (folder.run_dir(name) / "metrics.jsonl").exists())
        holder = int(folder.standing(name).holder.split()[1])
        driver.kill()
    wait_until(lambda: folder.standing(name).state == "open")
    assert list((folder.run_dir(name) / "checkpoints").iterdir())
    with pytest.raises(ProcessLookupError):
        wait_until(lambda: os.kill(holder, 0) is not None)


def wait_until(happened: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_process_that_cannot_work_ends_it_in_one_line(tmp_path: Path) -> None:
    folder: SweepFolder = small_sweep(tmp_path / "sweep", **ALONE)
    folder.imports = ("no_such_module_of_mine",)
    with pytest.raises(UserError, match="could not work: --import no_such_module_of_mine: it cannot be imported"):
        LocalWorkers(folder, 1).run(lambda: None)


def test_cores_are_shared_out() -> None:
    assert _shares([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3]]
    assert _shares([4, 6], 2) == [[4], [6]]
    assert _shares([0, 1], 3) == [[0], [1], [0]]


def test_gpus_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-abc")
    assert visible_gpus() == ["2", "GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    seen: list[str] = []
    monkeypatch.setattr(module.subprocess, "Popen", lambda *_, env, **__: seen.append(env["CUDA_VISIBLE_DEVICES"]))
    workers = LocalWorkers(small_sweep(tmp_path / "sweep", **ALONE), 3, gpus=["2", "3"])
    for slot in range(3):
        workers._start(slot)
    assert seen == ["2", "3", "2"]


@pytest.mark.slow
def test_two_drivers_share_one_sweep(tmp_path: Path) -> None:
    """Neither disturbs the other, no run is made twice, and both end when all is done."""
    one, other = small_sweep(tmp_path / "sweep"), open_sweep(tmp_path / "sweep")
    ended: list[bool] = []
    drivers = [
        threading.Thread(target=lambda f=f: ended.append(LocalWorkers(f, 1).run(lambda: None))) for f in (one, other)
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert ended == [True, True]
    standings = one.standings().values()
    assert {(s.state, s.history.attempts, s.history.failures) for s in standings} == {("finished", 1, 0)}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_how_a_process_ends(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    arguments = ["work", str(folder.path), "--retry", "3", "--pack", "1", "--cores", "0", "--parent", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(module.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(module, "_stop_with_parent", lambda _: None)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("balrl.sweep.attempts.Attempts.begin", fail)
    if isinstance(error, OSError):
        assert module.main() == 2
        assert capsys.readouterr().err == "balrl: cannot read or write: [Errno 28] No space left on device\n"
    else:
        assert module.main() == 130
