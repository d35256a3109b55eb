"""What became of every attempt at a run, and when a run is to be left alone."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from balrl.checkpoint import list_checkpoints
from balrl.errors import UserError
from balrl.foreign import fields, parse_json

BEGUN, ENDED = "begun", "ended"


@dataclass(frozen=True)
class History:
    """Attempts at a run so far.

    Attributes:
        attempts: how many were begun.
        failures: how many of the newest came to a bad end in a row, none of them past a checkpoint.
        error: the last words of the newest that failed; of one that was killed, that it was.
        host: of the newest.
        since: when the newest was begun, as `time.time`; 0 if there is none.
        is_hopeless: whether another try would end as the newest: after a mistake in configuration or data.
    """

    attempts: int = 0
    failures: int = 0
    error: str = ""
    host: str = ""
    since: float = 0.0
    is_hopeless: bool = False

    def after_failure(self, error: str, went_on: bool) -> History:
        """Return this with one more bad end, which is the first of a row if the attempt had left a checkpoint."""
        return replace(self, failures=1 if went_on else self.failures + 1, error=error)


class Attempts:
    """The attempts at one run: a line when one begins, a line when it ends; one that was killed has no second line.

    Args:
        file: ``.jsonl``; made at the first attempt.
        run_dir: of the run.
    """

    def __init__(self, file: Path, run_dir: Path) -> None:
        self.file, self.run_dir = file, run_dir

    def begin(self) -> None:
        """Write down that an attempt begins, and from where."""
        self._write({"event": BEGUN, "checkpoint": self._newest()})

    def end(self, outcome: str, error: str = "") -> None:
        """Write down how this process's attempt ended: finished, stopped, failed or hopeless."""
        self._write({"event": ENDED, "outcome": outcome, "error": error, "checkpoint": self._newest()})

    def history(self, is_held: bool) -> History:
        """Return what the lines say.

        An attempt that failed or was killed counts against the run, unless it left a newer checkpoint than it began
        with: then it is the first of a new row.

        Args:
            is_held: whether somebody is at it now: the newest attempt then is not over.
        """
        history, pending = History(), ""
        lines = self._lines()
        for index, line in enumerate(lines):
            newest = self._newest() if index == len(lines) - 1 else lines[index + 1]["checkpoint"]
            if line["event"] == BEGUN:
                pending = line["checkpoint"]
                history = replace(history, attempts=history.attempts + 1, host=line["host"], since=line["time"])
                is_last = index == len(lines) - 1
                if (is_last and not is_held) or (not is_last and lines[index + 1]["event"] == BEGUN):
                    history = history.after_failure("it was killed", newest > pending)
            elif line["outcome"] in ("failed", "hopeless"):
                history = history.after_failure(line["error"], line["checkpoint"] > pending)
                history = replace(history, is_hopeless=line["outcome"] == "hopeless")
            else:
                history = replace(history, failures=0, error="", is_hopeless=False)
        return history

    def forget(self) -> None:
        """Let all attempts be forgotten, so that the run is tried again."""
        self.file.unlink(missing_ok=True)

    def _newest(self) -> str:
        found = list_checkpoints(self.run_dir)
        return found[0].name if found else ""

    def _lines(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        kinds: dict[str, type] = {"event": str, "host": str, "pid": int, "time": float, "checkpoint": str}
        found = []
        for text in self.file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = fields(parse_json(text, "an attempt"), kinds, "an attempt")
                found.append({"outcome": "", "error": "", **line})
            except UserError:  # cut short by a kill
                continue
        return found

    def _write(self, line: dict[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        record = {"time": time.time(), "host": socket.gethostname(), "pid": os.getpid(), **line}
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, (json.dumps(record) + "\n").encode())  # one call: lines of several writers do not mix
        finally:
            os.close(file)
