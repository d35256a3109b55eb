"""One writer for a run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from balrl.errors import UserError
from balrl.foreign import parse_json

NAME = ".lock"
SILENCE = 600.0
"""Seconds without a sign of life after which another machine's lock counts as left behind."""
BEAT = 30.0


class RunLock:
    """Held by the one process that writes into a run directory; released by its end, however that comes.

    On one machine the operating system knows whether the holder lives. On shared storage another machine's holder gives
    signs of life (`beat`), and is gone when they stop.

    Args:
        run_dir: an existing directory; `NAME` in it says who holds it.

    Raises:
        UserError: naming host and process, when another holds it.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self._file = self._open()
        self._beaten = 0.0
        content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()})
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content.encode(), 0)

    def beat(self) -> None:
        """Give a sign of life, if the last is older than half a minute."""
        if self._file >= 0 and time.monotonic() - self._beaten > BEAT:
            self._beaten = time.monotonic()
            os.utime(self._file)

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._file >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_still(file, self.path):
                    os.close(file)
                    continue  # its holder has just released it
                holder = _holder(file)
                age = time.time() - os.fstat(file).st_mtime
                if holder and holder[0] != socket.gethostname() and age < SILENCE:
                    raise UserError(self._refusal(holder, f"; its last sign of life is {age:.0f} seconds old"))
            except BlockingIOError as error:
                holder = _holder(file)
                os.close(file)
                raise UserError(self._refusal(holder)) from error
            except BaseException:
                os.close(file)
                raise
            return file

    def _refusal(self, holder: tuple[str, int] | None, more: str = "") -> str:
        who = f"process {holder[1]} on {holder[0]}" if holder else "another process"
        return f"'{self.path.parent}' is being written by {who}{more}: wait for it, or stop it first"


def check_no_links(run_dir: Path) -> None:
    """Raise a `UserError` if a symbolic link stands where a run writes: it would write somewhere else."""
    folders = [run_dir, run_dir / "checkpoints"]
    for path in (entry for folder in folders if folder.is_dir() for entry in folder.iterdir()):
        if path.is_symlink():
            raise UserError(f"'{path}' is a symbolic link, and a run writes through none: put the file itself there")


def _holder(file: int) -> tuple[str, int] | None:
    content = os.pread(file, 1000, 0)
    if not content:
        return None
    try:
        data = parse_json(content, NAME)
        return str(data["host"]), int(data["pid"])
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
