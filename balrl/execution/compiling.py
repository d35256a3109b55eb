"""An update compiled into one function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.errors import first_line
from balrl.execution.products import MACHINE, teach_the_compiler
from balrl.execution.tracing import Traced, Update, trace

INDUCTOR: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"cpp_wrapper": True},
    "cuda": {"split_reductions": False, "shape_padding": False},
}
"""Options of torch's compiler. On a GPU sums over a batch are one launch: these are too small to be split; and products
are not padded where a timing says so, which would make a resumed run differ by how busy the machine was."""
CAREFULLY: Mapping[str, Mapping[str, Any]] = {"cuda": {"loop_ordering_after_fusion": False}}
"""Further ones for another try: over the order of loops torch 2.11 fails on most updates, where 2.13 saves kernels."""


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


class Compiled(NamedTuple):
    """A compiled update.

    Attributes:
        function: takes the inputs of `traced`, changes them in place and returns the values of its metrics.
        traced: what was compiled.
        updates: by how much one call advances the agent's `phase_updates`.
    """

    function: Callable[..., tuple[Tensor, ...]]
    traced: Traced
    updates: int

    def __call__(self) -> Metrics:
        """Make the update, but for `phase_updates`."""
        with torch.no_grad():
            values = self.function(*self.traced.inputs)
        return dict(zip(self.traced.metrics, values, strict=True))


class Compiler:
    """Compiles each kind of an agent's updates the first time that it is asked for.

    Where that fails, for want of a compiler say, there is none, and `notice` hears why, once.

    Args:
        agent: whose updates they are.
        notice: told what a person should know.
        backend: of `torch.compile`.
        working: entered with ``"compiling"`` for as long as that takes.
        bf16: cast the operands of matrix products to bfloat16.
    """

    def __init__(
        self,
        agent: Updatable,
        notice: Callable[[str], None] = lambda _: None,
        backend: str = "inductor",
        working: Callable[[str], AbstractContextManager[Any]] = nullcontext,
        bf16: bool = False,
    ) -> None:
        self.agent, self.notice, self.backend, self.working, self.bf16 = agent, notice, backend, working, bf16
        self.failed, self._is_careful = False, False
        self._compiled: dict[Hashable, Compiled] = {}

    def compiled(self, update: Update, name: str) -> Compiled | None:
        """Return the function for the agent as it is now; None once compiling has failed."""
        key = (name, self.agent.variant)
        if not self.failed and key not in self._compiled:
            try:
                with self.working("compiling"):
                    self._compiled[key] = self._compile(update)
            except Exception as error:  # a compiler's troubles are many; the update itself works without one
                self.failed = True
                self.notice(f"updates run uncompiled: {first_line(error)}")
        return None if self.failed else self._compiled[key]

    def _compile(self, update: Update) -> Compiled:
        if not self._compiled:
            self.notice("compiling the updates; the first time takes about half a minute (--compile off: none of it)")
        kind = self.agent.device.type
        with Restored(self.agent) as before:
            traced = trace(update, kind, self.bf16, MACHINE.redirect if kind == "cpu" else None)
            updates = self.agent.phase_updates - before
        for known in self._compiled.values():  # most of a balance model's "every n updates" are alike
            if known.traced.is_same(traced):
                return known._replace(updates=updates)
        teach_the_compiler()
        try:
            function = self._function(traced, CAREFULLY[kind] if self._is_careful else {})
        except Exception:
            if self._is_careful or kind not in CAREFULLY:
                raise
            self._is_careful = True
            function = self._function(traced, CAREFULLY[kind])
        return Compiled(function, traced, updates)

    def _function(self, traced: Traced, options: Mapping[str, Any]) -> Callable[..., tuple[Tensor, ...]]:
        """Return what was traced, compiled with further options and called once."""
        with torch._inductor.config.patch(**INDUCTOR[self.agent.device.type], **options):
            function = torch._dynamo.lookup_backend(self.backend)(traced.graph, traced.inputs)
            with Restored(self.agent), torch.no_grad():
                function(*traced.inputs)  # some of it is compiled when it is called first
        return function


class Restored:
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
