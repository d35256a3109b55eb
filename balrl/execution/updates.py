"""How updates are run: as they are written, compiled into one function each, or captured as one graph each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, Protocol

import torch

from balrl.agent import Metrics
from balrl.config import Precision
from balrl.errors import first_line
from balrl.execution.compiling import Compiler, Restored, Updatable
from balrl.execution.precision import check_precision, products_in
from balrl.execution.tracing import Update

WORTH_COMPILING = 20_000
"""Planned updates from which a compiler's half minute pays."""
BLOCK = 50
"""Updates in one graph."""
WARM_UPS = 2
"""How often what is captured is run before, while libraries set up their workspaces."""


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


class CompiledUpdates:
    """Runs updates compiled into one function each, or as they are written where that fails.

    Args:
        agent: whose updates they are.
        compiler: of them.
    """

    block = 1

    def __init__(self, agent: Updatable, compiler: Compiler) -> None:
        self.agent, self.compiler = agent, compiler

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        metrics: Metrics = {}
        for _ in range(count):
            compiled = self.compiler.compiled(update, name)
            if compiled is None:
                metrics |= update()
            else:
                metrics |= compiled()
                self.agent.phase_updates += compiled.updates
        return metrics


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
        inner: runs the updates that are captured; compiled, they launch a third of what they launch as written.
    """

    block = BLOCK

    def __init__(
        self, agent: Updatable, notice: Callable[[str], None] = lambda _: None, inner: Updates | None = None
    ) -> None:
        self.agent, self.notice, self.inner = agent, notice, inner or EagerUpdates()
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
                self._graphs[key] = self._capture(update, name, size)
            except Exception as error:  # drivers and libraries have many reasons; the update itself needs no graph
                self._failed = True
                self.notice(f"updates run as they are written, not as a CUDA graph: {first_line(error)}")
        return None if self._failed else self._graphs[key]

    def _capture(self, update: Update, name: str, size: int) -> _Graph:
        current, side = torch.cuda.current_stream(self.agent.device), torch.cuda.Stream(self.agent.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                with Restored(self.agent):  # each begins where the run stands: what lies ahead may be at its end
                    self.inner.run(update, name, size)
        current.wait_stream(side)
        with Restored(self.agent) as before:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                metrics = self.inner.run(update, name, size)
            updates = self.agent.phase_updates - before
        return _Graph(graph, metrics, updates)


class PreciseUpdates:
    """Runs updates with matrix products in one precision, whatever the rest of the process computes in.

    Args:
        inner: runs them.
        precision: of the products.
        device: of the agent.
    """

    def __init__(self, inner: Updates, precision: Precision, device: torch.device) -> None:
        self.inner, self.precision, self.device = inner, precision, device
        self.block = inner.block

    def run(self, update: Update, name: str, count: int = 1) -> Metrics:
        with products_in(self.precision, self.device):
            return self.inner.run(update, name, count)


def choose_updates(
    mode: Literal["auto", "on", "off"],
    agent: Updatable,
    planned: float,
    notice: Callable[[str], None],
    working: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    precision: Precision = "float32",
) -> Updates:
    """Return the fastest way to run updates on the agent's device; ``auto`` leaves short runs uncompiled.

    Raises:
        UserError: where the device cannot compute in that precision.
    """
    device = agent.device
    check_precision(precision, device, mode != "off")
    cast = precision == "bf16-mixed" and device.type == "cuda"
    updates: Updates = EagerUpdates()
    if mode == "on" or cast or (mode == "auto" and planned >= WORTH_COMPILING):
        updates = CompiledUpdates(agent, Compiler(agent, notice, working=working, bf16=cast))
    if mode != "off" and device.type == "cuda":
        updates = GraphUpdates(agent, notice, updates)
    return PreciseUpdates(updates, precision, device)
