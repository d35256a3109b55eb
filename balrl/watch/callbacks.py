"""Code of a user's own that is called while a run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from balrl.errors import UserError

if TYPE_CHECKING:
    from balrl.agent import Agent


class Status(NamedTuple):
    """Where a run stands when a callback is called.

    Attributes:
        run_dir: of the run.
        agent: that is trained; look at it, change nothing.
        phase: ``pretrain``, ``warmup``, ``finetune`` or ``done``.
        phase_steps, phase_total: updates (pretrain) or environment steps done in the phase, and how many it has.
        step: the run's one axis: updates of pre-training plus environment steps.
        updates, env_steps: in total.
    """

    run_dir: Path
    agent: Agent
    phase: str
    phase_steps: int
    phase_total: int
    step: int
    updates: int
    env_steps: int


class Callback:
    """Called while a run goes on; override what you need. A method that returns False stops the run, which is saved.

    Callbacks observe. What they keep is not in a checkpoint: a resumed run calls new ones, and is the same run with
    other callbacks or none. In a population each member calls them; `Status.run_dir` tells whose turn it is. An
    exception in one ends the run as any error does, its newest checkpoint standing.
    """

    def on_phase(self, status: Status) -> bool | None:
        """A phase begins (also when a run is resumed in the middle of it), or the run is done."""

    def on_step(self, status: Status) -> bool | None:
        """Some updates were taken, or every world took a step."""

    def on_log(self, status: Status, metrics: Mapping[str, float]) -> bool | None:
        """A record of metrics was written."""

    def on_evaluation(self, status: Status, evaluation: Mapping[str, Any]) -> bool | None:
        """The policy was evaluated; a record of ``evaluations.json``."""

    def on_checkpoint(self, status: Status, path: Path) -> bool | None:
        """A checkpoint was written."""


def check_callbacks(callbacks: Iterable[Any]) -> list[Callback]:
    """Return callbacks, those made that are given as classes.

    Raises:
        UserError: for something that has none of a callback's methods.
    """
    made = []
    for callback in callbacks:
        one = callback() if isinstance(callback, type) else callback
        if not isinstance(one, Callback):
            raise UserError(f"{one!r} is no callback: expected a balrl.Callback, or a class of one")
        made.append(one)
    return made
