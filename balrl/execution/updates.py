"""How updates are run: as they are written, compiled into one function each, or captured as one graph each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.execution.tracing import Traced, Update, trace

WORTH_COMPILING = 20_000
"""Planned updates from which a compiler's half minute pays."""
BLOCK = 50
"""Updates in one graph."""
WARM_UPS = 3
"""Updates before a capture, in which libraries set up their workspaces."""


class Updatable(Protocol):
    """What running updates needs: an agent has it, and so has a population of them."""

    device: torch.device
    phase_updates: int

    @property
    def variant(self) -> tuple[Hashable, ...]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any: ...
    def optimizer_state(self) -> dict[str, Tensor]: ...
    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None: ...


class Updates(Protocol):
    """Runs updates of one agent.

    Attributes:
        block: how many updates it likes to be asked for at a time.
    """

    block: int

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        """Run an update `count` times and return its newest metrics.

        Args:
            update: draws its own batches and changes the agent; calls under one name differ in nothing but tensors.
            name: of this kind of update.
            count: how many.
        """


class EagerUpdates:
    """Runs updates as they are written."""

    block = 1

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        metrics: Metrics = {}
        for _ in range(count):
            metrics |= update()
        return metrics


class _Compiled(NamedTuple):
    function: Callable[..., tuple[Tensor, ...]]
    traced: Traced
    updates: int
    """By how much one call advances the agent's `phase_updates`."""


class CompiledUpdates:
    """Compiles each kind of update into one function the first time that it is run.

    Where that fails, for want of a compiler say, updates run as they are written, and `notice` hears why, once.

    Args:
        agent: whose updates they are.
        notice: told what a person should know.
        backend: of `torch.compile`.
        working: entered with ``"compiling"`` for as long as that takes.
    """

    block = 1

    def __init__(
        self,
        agent: Updatable,
        notice: Callable[[str], None] = lambda _: None,
        backend: str = "inductor",
        working: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.agent, self.notice, self.backend, self.working = agent, notice, backend, working
        self._compiled: dict[Hashable, _Compiled] = {}
        self._failed = False

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        metrics: Metrics = {}
        for _ in range(count):
            compiled = self._compiled_for(update, name)
            metrics |= update() if compiled is None else self._call(compiled)
        return metrics

    def _call(self, compiled: _Compiled) -> Metrics:
        with torch.no_grad():
            values = compiled.function(*compiled.traced.inputs)
        self.agent.phase_updates += compiled.updates
        return dict(zip(compiled.traced.metrics, values, strict=True))

    def _compiled_for(self, update: Update, name: str) -> _Compiled | None:
        """Return the function for the agent as it is now; None once compiling has failed."""
        key = (name, self.agent.variant)
        if not self._failed and key not in self._compiled:
            try:
                with self.working("compiling"):
                    self._compiled[key] = self._compile(update, name)
            except Exception as error:  # a compiler's troubles are many; the update itself works without one
                self._failed = True
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self.notice(f"updates run uncompiled: {reason}")
        return None if self._failed else self._compiled[key]

    def _compile(self, update: Update, name: str) -> _Compiled:
        if not self._compiled:
            self.notice("compiling the updates; the first time takes about half a minute (--compile off: none of it)")
        with _Restored(self.agent) as before:
            traced = trace(update)
            updates = self.agent.phase_updates - before
        for known in self._compiled.values():  # most of a balance model's "every n updates" are alike
            if known.traced.is_same(traced):
                return known._replace(updates=updates)
        with torch._inductor.config.patch(cpp_wrapper=self.agent.device.type == "cpu"):
            function = torch._dynamo.lookup_backend(self.backend)(traced.graph, traced.inputs)
            with _Restored(self.agent), torch.no_grad():
                function(*traced.inputs)  # some of it is compiled when it is called first
        return _Compiled(function, traced, updates)


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    metrics: Metrics
    updates: int


class GraphUpdates:
    """Captures each kind of update as one CUDA graph of up to `BLOCK` updates, and replays it on the agent's device.

    Metrics are the graph's own memory: the next replay overwrites them. Where capturing fails, updates run as they are
    written, and `notice` hears why, once.

    Args:
        agent: on a CUDA device.
        notice: told what a person should know.
    """

    block = BLOCK

    def __init__(self, agent: Updatable, notice: Callable[[str], None] = lambda _: None) -> None:
        self.agent, self.notice = agent, notice
        self._graphs: dict[Hashable, _Graph] = {}
        self._failed = False

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        metrics: Metrics = {}
        with torch.cuda.device(self.agent.device):  # graphs are captured and replayed on the current device's stream
            while count > 0:
                size = BLOCK if count >= BLOCK and not self._failed else 1
                captured = self._captured_for(update, name, size)
                if captured is None:
                    metrics |= update()
                    count -= 1
                    continue
                captured.graph.replay()
                self.agent.phase_updates += captured.updates
                metrics |= captured.metrics
                count -= size
        return metrics

    def _captured_for(self, update: Update, name: str, size: int) -> _Graph | None:
        """Return the graph for the agent as it is now; None once capturing has failed."""
        key = (name, size, self.agent.variant)
        if not self._failed and key not in self._graphs:
            try:
                self._graphs[key] = self._capture(update, size)
            except Exception as error:  # drivers and libraries have many reasons; the update itself needs no graph
                self._failed = True
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self.notice(f"updates run as they are written, not as a CUDA graph: {reason}")
        return None if self._failed else self._graphs[key]

    def _capture(self, update: Update, size: int) -> _Graph:
        current, side = torch.cuda.current_stream(self.agent.device), torch.cuda.Stream(self.agent.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                with _Restored(self.agent):  # each begins where the run stands: what lies ahead may be at its end
                    update()
        current.wait_stream(side)
        with _Restored(self.agent) as before:
            graph, metrics = torch.cuda.CUDAGraph(), Metrics()
            with torch.cuda.graph(graph):
                for _ in range(size):
                    metrics |= update()
            updates = self.agent.phase_updates - before
        return _Graph(graph, metrics, updates)


class _Restored:
    """Puts an agent's state back at the end of a block; gives `phase_updates` as it was at the beginning."""

    def __init__(self, agent: Updatable) -> None:
        self.agent = agent

    def __enter__(self) -> int:
        agent = self.agent
        self._kept = [{k: v.clone() for k, v in s.items()} for s in (agent.state_dict(), agent.optimizer_state())]
        self._updates = agent.phase_updates
        return self._updates

    def __exit__(self, *_: object) -> None:
        self.agent.load_state_dict(self._kept[0])
        self.agent.load_optimizer_state(self._kept[1])
        self.agent.phase_updates = self._updates


def choose_updates(
    mode: Literal["auto", "on", "off"],
    agent: Updatable,
    planned: float,
    notice: Callable[[str], None],
    working: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Updates:
    """Return the fastest way to run updates on the agent's device; ``auto`` leaves short runs on a CPU uncompiled."""
    if mode == "off":
        return EagerUpdates()
    if agent.device.type == "cuda":
        return GraphUpdates(agent, notice)
    if mode == "on" or planned >= WORTH_COMPILING:
        return CompiledUpdates(agent, notice, working=working)
    return EagerUpdates()
