"""A run's progress for a person: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from balrl.watch.callbacks import Callback, Status


class Display(Callback):
    """Shows a run's progress: a callback that is also told what a person should know. This one is silent."""

    def notice(self, message: str) -> None:
        """Say something that was assumed, taken over or found."""

    def working(self, what: str) -> AbstractContextManager[None]:
        """Say what keeps the run from going on, while it does."""
        return nullcontext()


def describe_evaluation(record: Mapping[str, Any]) -> str:
    """Return an evaluation record as one line."""
    parts = [f"{record['phase']:>8} {record['step']:>9,}  score {record['score']:7.1f}"]
    if "member" in record:
        parts.insert(0, f"{record['member']:>8}")
    if record["normalized_score"] is not None:
        parts.append(f"return {record['return_mean']:9.1f}")
    if record["success_rate"] is not None:
        parts.append(f"success {record['success_rate']:.0%}")
    return "  ".join(parts)


class RichDisplay(Display):
    """Shows phase, steps per second, remaining time and the last score; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[score]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._score = ""
        self._phase: str | None = None
        self._task: Any = None

    def __enter__(self) -> RichDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_step(self, status: Status) -> None:
        done, total = status.phase_steps, status.phase_total
        if status.phase != self._phase:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(
                status.phase, total=total, completed=done, count="", rate="", score=self._score
            )
            self._phase = status.phase
        speed = self._bar.tasks[0].speed
        rate = f"{speed:,.0f} steps/s" if speed else ""
        count = f"{done:,}/{total:,}"
        self._bar.update(self._task, completed=done, count=count, rate=rate, score=self._score)

    def on_evaluation(self, status: Status, evaluation: Mapping[str, Any]) -> None:
        self._score = f"score {evaluation['score']:.1f}"
        self.console.print(describe_evaluation(evaluation), highlight=False, markup=False)

    def notice(self, message: str) -> None:
        self.console.print(message, highlight=False, style="yellow", markup=False)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on a line of its own what keeps the run from going on."""
        task = self._bar.add_task(what, total=None, count="", rate="", score="")
        try:
            yield
        finally:
            self._bar.remove_task(task)


class MemberDisplay(Display):
    """Shows one member's progress on a population's display.

    Args:
        display: of all.
        member: its name.
    """

    def __init__(self, display: Display, member: str) -> None:
        self.display, self.member = display, member

    def on_step(self, status: Status) -> None:
        self.display.on_step(status)

    def on_evaluation(self, status: Status, evaluation: Mapping[str, Any]) -> None:
        self.display.on_evaluation(status, {"member": self.member, **evaluation})

    def notice(self, message: str) -> None:
        self.display.notice(f"{self.member}: {message}")

    def working(self, what: str) -> AbstractContextManager[None]:
        return self.display.working(what)
