from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import balrl
from balrl.errors import UserError
from balrl.run.run_lock import NAME, LockLost, RunLock, check_no_links, holder_of
from balrl.watch.callbacks import Status
from balrl.watch.display import Display
from tests.run.small import maze_config


def test_one_process_writes(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with pytest.raises(UserError, match=f"is being written by process {os.getpid()} on {socket.gethostname()}"):
        RunLock(tmp_path)
    lock.release()
    lock.release()
    assert not (tmp_path / NAME).exists()
    RunLock(tmp_path).release()


def test_a_killed_holder_leaves_nothing_that_holds(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from balrl.run.run_lock import RunLock\n"
    code += "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            RunLock(tmp_path)
        holder.kill()
    assert (tmp_path / NAME).exists()
    RunLock(tmp_path).release()


def test_another_machine_is_believed_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(UserError, match="process 7 on elsewhere; its last sign of life is"):
        RunLock(tmp_path)
    long_ago = time.time() - 3_600
    os.utime(file, (long_ago, long_ago))
    lock = RunLock(tmp_path)
    assert time.time() - file.stat().st_mtime < 60
    lock.release()


def test_signs_of_life_come_whatever_the_holder_is_busy_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.run.run_lock.BEAT", 0.01)
    lock = RunLock(tmp_path)
    os.utime(tmp_path / NAME, (0, 0))
    time.sleep(0.2)
    assert time.time() - (tmp_path / NAME).stat().st_mtime < 60
    lock.release()


@pytest.mark.parametrize("how", ["written over", "another file"])
def test_a_holder_that_was_silent_too_long_writes_no_more(how: str, tmp_path: Path) -> None:
    """Another machine took the directory over; what lies there, its lock included, is left as it is."""
    lock = RunLock(tmp_path)
    lock.check()
    if how == "another file":
        (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(LockLost, match="was taken over by another process"):
        lock.check()
    lock.release()
    assert "elsewhere" in (tmp_path / NAME).read_text()


def test_a_run_whose_directory_was_taken_over_leaves_it_alone(tmp_path: Path) -> None:
    class TakenOver(Display):
        def on_step(self, status: Status) -> None:
            if status.step == 6:
                (status.run_dir / NAME).write_text(json.dumps({"host": "elsewhere", "pid": 7}))

    with pytest.raises(LockLost):
        balrl.train(maze_config(), tmp_path / "run", TakenOver())
    assert not (tmp_path / "run" / "summary.json").exists()
    assert "elsewhere" in (tmp_path / "run" / NAME).read_text()


def test_looking_who_holds_a_directory_does_not_take_it(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    lock = RunLock(tmp_path)
    assert holder_of(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
    lock.release()
    assert holder_of(tmp_path) is None
    (tmp_path / NAME).write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    assert holder_of(tmp_path) == "process 7 on elsewhere"
    os.utime(tmp_path / NAME, (0, 0))
    assert holder_of(tmp_path) is None


def test_what_is_no_lock_does_not_lock(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff[")
    RunLock(tmp_path).release()


def test_links_are_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    check_no_links(run)
    for place in (run / "metrics.jsonl", run / "checkpoints" / "0000000001"):
        place.symlink_to(outside)
        with pytest.raises(UserError, match=f"'{place}' is a symbolic link"):
            check_no_links(run)
        with pytest.raises(UserError, match="is a symbolic link"):
            balrl.train(maze_config(), run)
        place.unlink()
    assert outside.read_text() == "precious"
