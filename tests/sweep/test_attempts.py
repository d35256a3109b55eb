from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from balrl.sweep.attempts import Attempts, History


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(tmp_path / "attempts" / "x.jsonl", tmp_path / "run")


def checkpoint(attempts: Attempts, name: str) -> None:
    folder = attempts.run_dir / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")


def as_another(attempts: Attempts) -> None:
    """Let what is written so far be another process's."""
    lines = [json.loads(line) for line in attempts.file.read_text().splitlines()]
    attempts.file.write_text("".join(json.dumps({**line, "pid": line["pid"] + 1}) + "\n" for line in lines))


def test_nothing_was_tried_yet(attempts: Attempts) -> None:
    assert attempts.history(False) == History()


def test_failures_count_until_one_leaves_a_checkpoint(attempts: Attempts) -> None:
    for expected in (1, 2):
        attempts.begin()
        attempts.end("failed", "no such thing")
        assert attempts.history(False).failures == expected
    attempts.begin()
    checkpoint(attempts, "0000000010")
    attempts.end("failed", "later")
    found = attempts.history(False)
    assert (found.attempts, found.failures, found.error) == (3, 1, "later")
    attempts.begin()
    attempts.end("stopped")
    assert attempts.history(False).failures == 0


def test_one_that_was_killed_counts_unless_it_went_on(attempts: Attempts) -> None:
    attempts.begin()
    assert attempts.history(True).failures == 0, "it is still at it"
    assert attempts.history(False).failures == 1
    as_another(attempts)
    attempts.begin()
    checkpoint(attempts, "0000000010")
    found = attempts.history(False)
    assert (found.failures, found.error) == (1, "it was killed")
    as_another(attempts)
    attempts.begin()
    as_another(attempts)
    attempts.begin()
    assert attempts.history(True).failures == 2
    attempts.end("finished")
    assert attempts.history(False).failures == 0


def test_what_another_try_would_repeat_is_known(attempts: Attempts) -> None:
    attempts.begin()
    attempts.end("hopeless", "there is no such file")
    assert attempts.history(False).is_hopeless
    attempts.forget()
    attempts.forget()
    assert attempts.history(False) == History()


def test_a_line_that_was_cut_short_is_left_out(attempts: Attempts) -> None:
    attempts.begin()
    with attempts.file.open("a") as file:
        file.write('{"event": "ended", "ho\n[]\n')
    found = attempts.history(True)
    assert (found.attempts, found.host) == (1, os.uname().nodename)
