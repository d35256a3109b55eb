"""Where the command line writes to."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> Console:
    """Return a console that outlives its reader: after ``balrl train | head -1`` the run goes on, and says no more."""
    from rich.console import Console

    class Enduring(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            silence()

    return Enduring()


def silence() -> None:
    """Send what is still written to where nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def forgive_characters() -> None:
    """Write what a terminal's encoding lacks as an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
