"""A run's progress for a person: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display(Protocol):
    """Shows a run's progress to a person.

    `update` is told how many updates or environment steps of a phase are done, and where the run stands on its one
    axis: updates of pre-training plus environment steps.
    """

    def update(self, phase: str, done: int, total: int, step: int) -> None: ...
    def evaluated(self, record: Mapping[str, Any]) -> None: ...
    def notice(self, message: str) -> None: ...
    def working(self, what: str) -> AbstractContextManager[None]: ...


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


class RichDisplay:
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

    def update(self, phase: str, done: int, total: int, step: int) -> None:
        if phase != self._phase:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(phase, total=total, completed=done, count="", rate="", score=self._score)
            self._phase = phase
        speed = self._bar.tasks[0].speed
        rate = f"{speed:,.0f} steps/s" if speed else ""
        count = f"{done:,}/{total:,}"
        self._bar.update(self._task, completed=done, count=count, rate=rate, score=self._score)

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self._score = f"score {record['score']:.1f}"
        self.console.print(describe_evaluation(record), highlight=False)

    def notice(self, message: str) -> None:
        self.console.print(message, highlight=False, style="yellow")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on a line of its own what keeps the run from going on."""
        task = self._bar.add_task(what, total=None, count="", rate="", score="")
        try:
            yield
        finally:
            self._bar.remove_task(task)


class SilentDisplay:
    """Shows nothing."""

    def update(self, phase: str, done: int, total: int, step: int) -> None:
        pass

    def evaluated(self, record: Mapping[str, Any]) -> None:
        pass

    def notice(self, message: str) -> None:
        pass

    def working(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()


class MemberDisplay:
    """Shows one member's progress on a population's display.

    Args:
        display: of all.
        member: its name.
    """

    def __init__(self, display: Display, member: str) -> None:
        self.display, self.member = display, member

    def update(self, phase: str, done: int, total: int, step: int) -> None:
        self.display.update(phase, done, total, step)

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self.display.evaluated({"member": self.member, **record})

    def notice(self, message: str) -> None:
        self.display.notice(f"{self.member}: {message}")

    def working(self, what: str) -> AbstractContextManager[None]:
        return self.display.working(what)
