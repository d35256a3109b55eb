"""Sequences: windows of consecutive steps, for agents that remember."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.linked_replay import LinkedReplay
from balrl.random_stream import RandomStream


class SequenceReplay(LinkedReplay):
    """Gives out windows of L consecutive steps that cross neither an episode's end nor a gap.

    Every field of a batch is then ``[B, L, …]``. A window that its episode ended before repeats its last step, and
    `Batch.played` ``[B, L]`` is 0 there: no loss may look at those.

    A window begins at a row that is drawn uniformly; with a burn-in of K steps, ``K + U{0, …, L − K − 1}`` steps before
    it, or where its episode begins, if that is later. What is learned from are then all steps of a window from an
    episode's beginning, and the last L − K of any other, the drawn one among them: of an episode of any length, every
    step is learned from nearly as often.

    Args:
        length: L.
        burn_in: K; by default windows begin at the drawn row.
        args, settings: of `LinkedReplay`.
    """

    def __init__(self, *args: Any, length: int, burn_in: int | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.length, self.burn_in = length, burn_in

    def sample(self, batch_size: int, batches: int = 1, stream: RandomStream | None = None) -> Batch:
        if self.burn_in is None:
            return super().sample(batch_size, batches, stream)
        rows, span = self._drawn(batches * batch_size, stream), self.length - self.burn_in
        if stream is None:
            back = torch.randint(span, rows.shape, device=self.device)
        else:
            back = stream.integers(span, len(rows))
        return self.gather(self.precede(rows, self.burn_in + back, self.length - 1))

    def newest(self, count: int) -> Batch:
        """Return the `count` steps that were added last, one by one, the newest last."""
        return self.transitions(self.newest_rows(count))

    def gather(self, indices: Tensor) -> Batch:
        """Return the windows from the rows `indices` ``[B]`` on."""
        rows, played = self.follow(indices, self.length)
        steps = self.transitions(rows.T.flatten())
        windows = (None if x is None else x.unflatten(0, (-1, self.length)) for x in steps)
        return Batch(*windows)._replace(played=played.T.to(steps.observations.dtype))  # type: ignore[arg-type]
