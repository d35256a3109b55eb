"""Next actions of transitions that are being collected: known one step later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from balrl.batch import TRANSITION, Batch


class VectorStep(NamedTuple):
    """A vector step of N worlds: its transitions ``[N, …]``, whose episodes it ended, which rows are transitions."""

    batch: Batch
    done: Tensor
    valid: Tensor | None


class NextActions:
    """Holds a vector step back until the one after it, whose actions are its next actions.

    An episode's last transition repeats its own action, as `Dataset.next_actions` does: where the task ended nothing is
    bootstrapped, and where it was cut off nobody has acted in its last observation.
    """

    def __init__(self) -> None:
        self._held: VectorStep | None = None

    def add(self, batch: Batch, done: Tensor, valid: Tensor | None = None) -> VectorStep | None:
        """Take a vector step and return the one before it, now with `next_actions`; None for the first."""
        before, self._held = self._held, VectorStep(batch, done, valid)
        if before is None:
            return None
        following = torch.where(before.done.unsqueeze(-1), before.batch.actions, batch.actions)
        return before._replace(batch=before.batch._replace(next_actions=following))

    def relabel(self, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace the rewards of the step that is held by ``reward(observations, actions)`` ``[N]``."""
        if self._held is not None:
            batch = self._held.batch
            rewards = reward(batch.observations, batch.actions)
            self._held = self._held._replace(batch=batch._replace(rewards=rewards))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the step that is held; empty if there is none."""
        if self._held is None:
            return {}
        fields = {name: getattr(self._held.batch, name) for name in TRANSITION}
        valid = {} if self._held.valid is None else {"valid": self._held.valid}
        return {**fields, "done": self._held.done, **valid}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Undo `state_dict` on a device; without a state, hold nothing."""
        self._held = None
        if state:
            here = {name: value.to(device) for name, value in state.items()}
            self._held = VectorStep(Batch(*(here[name] for name in TRANSITION)), here["done"], here.get("valid"))
