"""One writer for a run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from balrl.errors import UserError
from balrl.foreign import parse_json

NAME = ".lock"
SILENCE = 600.0
"""Seconds without a sign of life after which another machine's lock counts as left behind."""
BEAT = 30.0


class LockHeld(UserError):
    """Another process writes into the run directory."""


class LockLost(UserError):
    """Another machine writes into the run directory now."""


class RunLock:
    """Held by the one process that writes into a run directory; released by its end, however that comes.

    On one machine the operating system knows whether the holder lives. On shared storage another machine's holder gives
    a sign of life every `BEAT` seconds, whatever else it is busy with, and is gone when they stop. A holder that was
    silent too long, because its machine slept or lost its storage, finds that out by `check`.

    Args:
        run_dir: an existing directory; `NAME` in it says who holds it.

    Raises:
        LockHeld: naming host and process, when another holds it.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self._file = self._open()
        self._content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, self._content, 0)
        self._released, self._is_lost = threading.Event(), False
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Make sure that the directory is still this holder's.

        Raises:
            LockLost: when another machine took it over, because this one gave no sign of life for too long.
        """
        if self._file >= 0 and not self._is_held():
            self._stop_beating()
            os.close(self._file)
            self._file, self._is_lost = -1, True
        if self._is_lost:
            raise LockLost(
                f"'{self.path.parent}' was taken over by another process, as this one gave no sign of life for "
                f"{SILENCE:.0f} seconds; nothing more is written to it from here"
            )

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._file >= 0:
            self._stop_beating()
            if self._is_held():
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with suppress(OSError):  # storage that does not answer now may answer in half a minute
                os.utime(self._file)

    def _stop_beating(self) -> None:
        self._released.set()
        self._beating.join()

    def _is_held(self) -> bool:
        """Whether the lock is where it was, and still says that it is this holder's."""
        return _is_still(self._file, self.path) and os.pread(self._file, len(self._content) + 1, 0) == self._content

    def _open(self) -> int:
        tries = 0
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
                    raise LockHeld(self._refusal(holder, f"; its last sign of life is {age:.0f} seconds old"))
            except BlockingIOError as error:
                holder = _holder(file)
                os.close(file)
                tries += 1
                if tries < 3:  # somebody who looked whether it is held
                    time.sleep(0.05)
                    continue
                raise LockHeld(self._refusal(holder)) from error
            except BaseException:
                os.close(file)
                raise
            return file

    def _refusal(self, holder: tuple[str, int] | None, more: str = "") -> str:
        who = f"process {holder[1]} on {holder[0]}" if holder else "another process"
        return f"'{self.path.parent}' is being written by {who}{more}: wait for it, or stop it first"


def holder_of(run_dir: Path) -> str | None:
    """Return who writes into a run directory, as ``process 12 on host``; None if nobody does."""
    try:
        file = os.open(run_dir / NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        holder = _holder(file)
        who = f"process {holder[1]} on {holder[0]}" if holder else "another process"
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return who
        elsewhere = holder is not None and holder[0] != socket.gethostname()
        return who if elsewhere and time.time() - os.fstat(file).st_mtime < SILENCE else None
    finally:
        os.close(file)


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
