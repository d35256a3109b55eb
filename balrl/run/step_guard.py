"""An end for steps of a task that never return."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from balrl.envs.checked import CheckedWorld
from balrl.errors import EXIT_ENVIRONMENT
from balrl.rollout import Collector

GRACE = 5.0
"""Seconds after the interruption until the process is ended."""


class StepGuard:
    """Watches from a thread whether the worlds answer.

    Where a vector step takes longer than `seconds`, `message` says so and the main thread is interrupted: whoever
        handles
    that raises an `EnvironmentFault`. A step that cannot be interrupted, such as one in a simulator's own code, ends
    the process after `GRACE` seconds; what was saved before stays good.

    Args:
        seconds: that a step may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.message = ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch, as long as the context lasts; in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True, name="step guard")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(min(1.0, self.seconds / 4)):
            began = min(list(Collector.waiting_since.values()), default=None)
            if began is None or time.monotonic() - began < self.seconds:
                continue
            self.message = f"{_whose_turn()} has not returned for {self.seconds:g} seconds (environment.step_timeout)"
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if not done.wait(GRACE):
                sys.stderr.write(f"balrl: {self.message}, and cannot be interrupted: ended\n")
                sys.stderr.flush()
                os._exit(EXIT_ENVIRONMENT)
            return


def _whose_turn() -> str:
    """Return which world's call is running in any thread, by the frames of `CheckedWorld`."""
    for frame in sys._current_frames().values():
        inner = frame
        while inner is not None:
            if isinstance(inner.f_locals.get("self"), CheckedWorld) and inner.f_code.co_name in ("step", "reset"):
                world: CheckedWorld = inner.f_locals["self"]
                return f"world {world.index}, step {world.steps:,} of its episode: {inner.f_code.co_name}()"
            inner = inner.f_back  # type: ignore[assignment]
    return "a vector step of the environment"
