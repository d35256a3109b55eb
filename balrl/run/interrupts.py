"""Ctrl-C and termination as requests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted:
    """Whether this process was asked to stop while it was busy with something that then ended in order."""

    asked = False


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Call something at the first Ctrl-C or termination; a second one acts as usual.

    Only the main thread hears them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        Interrupted.asked = True
        act()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
