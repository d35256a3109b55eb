"""Sequences: windows of consecutive steps, for agents that remember."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from balrl.batch import Batch
from balrl.linked_replay import LinkedReplay


class SequenceReplay(LinkedReplay):
    """Gives out windows of L consecutive steps, from any start, that cross neither an episode's end nor a gap.

    Every field of a batch is then ``[B, L, …]``. A window that its episode ended before repeats its last step, and
    `Batch.played` ``[B, L]`` is 0 there: no loss may look at those.

    Args:
        length: L.
        args, settings: of `LinkedReplay`.
    """

    def __init__(self, *args: Any, length: int, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.length = length

    def newest(self, count: int) -> Batch:
        """Return the `count` steps that were added last, one by one, the newest last."""
        return self.transitions(self.newest_rows(count))

    def gather(self, indices: Tensor) -> Batch:
        """Return the windows from the rows `indices` ``[B]`` on."""
        rows, played = self.follow(indices, self.length)
        steps = self.transitions(rows.T.flatten())
        windows = (None if x is None else x.unflatten(0, (-1, self.length)) for x in steps)
        return Batch(*windows)._replace(played=played.T.to(steps.observations.dtype))  # type: ignore[arg-type]
