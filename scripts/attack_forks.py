"""Running the command line in a fork of this process, which has imported everything already, and killing it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

KILLED = -signal.SIGKILL


class Ended(NamedTuple):
    """How a command ended: its exit code (`KILLED` if it was), what it wrote, and how long it took."""

    code: int
    text: str
    seconds: float


def command(arguments: Sequence[str], folder: Path, kill_after: float | None = None, timeout: float = 120.0) -> Ended:
    """Run ``balrl ARGUMENTS`` in a folder, and kill it after some seconds.

    Args:
        arguments: of the command line.
        folder: where it runs; its output goes to ``output.txt`` there.
        kill_after: seconds; None: let it end.
        timeout: after which it counts as hanging; its exit code is 124 then.
    """
    output = folder / "output.txt"
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(arguments, folder, output)
    code, limit = None, timeout if kill_after is None else kill_after
    while code is None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() - began > limit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = KILLED if kill_after is not None else 124
        else:
            time.sleep(0.002)
    return Ended(code, output.read_text(errors="replace") if output.exists() else "", time.monotonic() - began)


def _become(arguments: Sequence[str], folder: Path, output: Path) -> None:
    """Be the command, and end with it."""
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        from balrl.cli.main import main

        code = main(list(arguments))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def preload() -> None:
    """Import what every command needs, so that a fork has it."""
    import torch

    from balrl.agents.registration import registrations
    from balrl.run.registry import make_env

    torch.set_num_threads(1)
    for one in registrations():
        __import__(one.path.partition(":")[0])
    make_env("balrl/PointMaze-v0", 1)
