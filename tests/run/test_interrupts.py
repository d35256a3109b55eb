from __future__ import annotations

import os
import signal
import threading

import pytest

from balrl.run.interrupts import on_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_request_and_the_second_acts_as_usual(number: signal.Signals) -> None:
    usual = []
    before = signal.signal(number, lambda *_: usual.append(1))
    heard = []
    try:
        with on_interrupt(lambda: heard.append(1)):
            os.kill(os.getpid(), number)
            assert (heard, usual) == ([1], [])
            os.kill(os.getpid(), number)
            assert (heard, usual) == ([1], [1])
        os.kill(os.getpid(), number)
        assert (heard, usual) == ([1], [1, 1])
    finally:
        signal.signal(number, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        with on_interrupt(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [True]
