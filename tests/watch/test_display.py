"""What a person sees of a run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from balrl.watch.display import MemberDisplay, RichDisplay, SilentDisplay


def shown(terminal: bool) -> tuple[RichDisplay, io.StringIO]:
    out = io.StringIO()
    return RichDisplay(Console(file=out, force_terminal=terminal, width=120)), out


def test_the_live_line_shows_phase_count_and_what_holds_it_up() -> None:
    display, out = shown(terminal=True)
    with display:
        with MemberDisplay(display, "s0").working("compiling"):
            display._bar.refresh()
        assert "compiling" in out.getvalue()
        display.update("pretrain", 1_200, 50_000, 1_200)
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
        display.update("pretrain", 1, 2, 1)
    assert out.getvalue() == "s0: hot\n"
    with SilentDisplay().working("compiling"):
        pass
