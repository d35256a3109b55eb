"""Several runs in one process, taking turns, whose updates are made together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from balrl.agent import Metrics
from balrl.execution.population import Population
from balrl.execution.tracing import Update
from balrl.execution.updates import Updates

Result = TypeVar("Result")


@dataclass
class _Request:
    """Updates that a run waits for."""

    update: Update
    name: str
    count: int
    metrics: Metrics = field(default_factory=dict)
    error: BaseException | None = None


class Worker(threading.Thread, Generic[Result]):
    """A run in a thread of its own that moves only in its turn: until it asks for updates, or ends.

    Args:
        work: the run.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.request: _Request | None = None
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.ended = False

    def turn(self) -> None:
        """Let the run go on, and wait until it asks or ends."""
        if not self.is_alive():
            self.start()
        self._go.release()
        self._stopped.acquire()

    def ask(self, request: _Request) -> Metrics:
        """Hand the turn back until a request is served; called by the run itself."""
        self.request = request
        self._stopped.release()
        self._go.acquire()
        if request.error is not None:
            raise request.error
        return request.metrics

    def run(self) -> None:
        self._go.acquire()
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        self.ended, self.request = True, None
        self._stopped.release()


class SharedUpdates:
    """A run's updates as a member of a population: it waits until they have been made, with the others' or alone.

    Args:
        worker: the run.
        block: how many the population's own way of running likes at a time.
    """

    def __init__(self, worker: Worker[Any], block: int) -> None:
        self.worker, self.block = worker, block

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        return self.worker.ask(_Request(update, name, count)) if count else {}


def run_in_lockstep(population: Population, updates: Updates, workers: Mapping[int, Worker[Result]]) -> None:
    """Run the members of a population until all have ended.

    Members that ask for the same kind of update at the same time make it together. One that is alone, or out of step
    (its first episode took longer, say), makes its own, with the same numbers: nothing depends on who else is there.

    Args:
        population: its members.
        updates: runs the population's.
        workers: their runs, by their place in it; a place without one belongs to nobody.
    """
    for worker in workers.values():
        worker.turn()
    while waiting := {i: worker.request for i, worker in workers.items() if worker.request is not None}:
        try:
            _serve(population, updates, waiting)
        except BaseException as error:
            for request in waiting.values():
                request.count, request.error = 0, error
        for i, request in waiting.items():
            if request.count == 0:
                workers[i].request = None
                workers[i].turn()


def _serve(population: Population, updates: Updates, waiting: Mapping[int, _Request]) -> None:
    """Make what every waiting member can make together, or one update of each kind that is asked for."""
    kinds: dict[Any, list[int]] = {}
    for i, request in waiting.items():
        kinds.setdefault((request.name, population.members[i].variant), []).append(i)
    if len(kinds) == 1:
        first, asked = next(iter(waiting.items()))
        count = min(request.count for request in waiting.values())
        with population.only(waiting):
            metrics = updates.run(population.batched(asked.update, first), f"{asked.name} of {first}", count)
        _answer(waiting.values(), waiting, metrics, count)
        return
    for members in kinds.values():
        with population.only(members):
            metrics = population.batched(waiting[members[0]].update, members[0])()
        _answer([waiting[i] for i in members], members, metrics, 1)


def _answer(requests: Iterable[_Request], members: Iterable[int], metrics: Metrics, count: int) -> None:
    for i, request in zip(members, requests, strict=True):
        request.metrics |= {key: value[i] for key, value in metrics.items()}
        request.count -= count
