"""What a person sees of a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from balrl.watch.callbacks import Status
from balrl.watch.display import Display, MemberDisplay, RichDisplay


def at(done: int, total: int) -> Status:
    agent: Any = None
    return Status(Path("run"), agent, "pretrain", done, total, done, done, 0)


def shown(terminal: bool) -> tuple[RichDisplay, io.StringIO]:
    out = io.StringIO()
    return RichDisplay(Console(file=out, force_terminal=terminal, width=120)), out


def test_the_live_line_shows_phase_count_and_what_holds_it_up() -> None:
    display, out = shown(terminal=True)
    with display:
        with MemberDisplay(display, "s0").working("compiling"):
            display._bar.refresh()
        assert "compiling" in out.getvalue()
        display.on_step(at(1_200, 50_000))
        seen = len(out.getvalue())
        display._bar.refresh()
        assert "pretrain" in out.getvalue()[seen:]
        assert "1,200/50,000" in out.getvalue()[seen:]
        assert "compiling" not in out.getvalue()[seen:]


def test_a_failure_ends_what_held_it_up() -> None:
    display, _ = shown(terminal=True)
    with display, pytest.raises(ValueError, match="no compiler"), display.working("compiling"):
        raise ValueError("no compiler")
    assert not display._bar.tasks


def test_plain_lines_elsewhere() -> None:
    display, out = shown(terminal=False)
    with display, display.working("compiling"):
        MemberDisplay(display, "s0").notice("hot")
        display.on_step(at(1, 2))
    assert out.getvalue() == "s0: hot\n"
    with Display().working("compiling"):
        pass
