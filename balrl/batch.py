"""The one shape in which transitions travel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TRANSITION = ("observations", "actions", "rewards", "next_observations", "terminated")
"""The fields that every batch has."""


class Batch(NamedTuple):
    """Transitions as plain tensors on one device; ``B`` rows.

    Termination and truncation never share a flag: `terminated` is true only where the task itself ended, and
    bootstrapping masks with ``~terminated`` alone. A truncated transition carries its true last observation in
    `next_observations` and bootstraps from it.

    Attributes:
        observations: ``[B, observation_dim]`` floating point, raw (agents normalise).
        actions: ``[B, action_dim]`` floating point in [-1, 1].
        rewards: ``[B]`` floating point, after the run's scale and bias.
        next_observations: ``[B, observation_dim]``.
        terminated: ``[B]`` boolean.
        mc_returns: ``[B]``, the discounted return from this state on; only for agents that ask for it.
        next_actions: ``[B, action_dim]``, the data's action at `next_observations`; only for agents that ask for it.
        log_probs, advantages, value_targets: ``[B]``, what the policy that took the actions made of them; only in what
            comes from `balrl.on_policy.RolloutBuffer`.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    mc_returns: Tensor | None = None
    next_actions: Tensor | None = None
    log_probs: Tensor | None = None
    advantages: Tensor | None = None
    value_targets: Tensor | None = None

    def rows(self, index: Tensor | slice) -> Batch:
        """Return the rows at a boolean or integer index, or of a slice."""
        return Batch(*(None if x is None else x[index] for x in self))  # type: ignore[arg-type]

    def split(self, count: int) -> list[Batch]:
        """Return `count` batches of consecutive rows, all of one size.

        Raises:
            ValueError: when the rows cannot be divided.
        """
        rows = self.rewards.shape[0]
        if rows % count:
            raise ValueError(f"a batch of {rows} rows cannot be divided into {count} equal parts")
        if count == 1:
            return [self]
        columns = [[None] * count if x is None else x.chunk(count) for x in self]
        return [Batch(*values) for values in zip(*columns, strict=True)]

    def join(self, other: Batch) -> Batch:
        """Return this batch's rows followed by another's; optional fields that either lacks are left out."""
        pairs = zip(self, other, strict=True)
        return Batch(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))  # type: ignore[arg-type]
