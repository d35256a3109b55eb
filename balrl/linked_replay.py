"""A replay that knows which row follows on which: of single transitions, that are given out in runs of steps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.next_actions import VectorStep
from balrl.replay import ReplayBuffer


class LinkedReplay(ReplayBuffer):
    """A ring of single transitions, beside each of which stands how far behind it its successor is.

    0 where there is none: the episode ended, or has not gone on yet. Following these links crosses neither an episode's
    end nor the ring's seam, and no transition is kept twice. How far before it the predecessor is stands there, too,
    and holds as long as the predecessor's link says the same: it is overwritten first.

    Args:
        capacity, args, settings: of `ReplayBuffer`.
        num_envs: worlds whose steps are added.

    Raises:
        UserError: where a vector step could overwrite its predecessor.
    """

    tensors: ClassVar[tuple[str, ...]] = (*ReplayBuffer.tensors, "links", "backs")

    def __init__(self, capacity: int, *args: Any, num_envs: int = 1, **settings: Any) -> None:
        if capacity < 2 * num_envs:
            raise UserError(
                f"replay.capacity is {capacity:,}, expected at least {2 * num_envs:,} for runs of steps in "
                f"{num_envs:,} worlds"
            )
        super().__init__(capacity, *args, **settings)
        self.links = torch.zeros(capacity, dtype=torch.int32, device=self.device)
        self.backs = torch.zeros_like(self.links)
        self._last = torch.full((num_envs,), -1, device=self.device)  # each world's newest row, if its episode goes on

    def add(self, batch: Batch, ends: Tensor | None = None) -> None:
        """Append transitions in the order in which they happened.

        Args:
            ends: ``[B]`` bool, rows that the next row does not follow on; by default none follows on another.
        """
        count = len(batch.rewards)
        rows = (self.cursor + torch.arange(count, device=self.device))[-self.capacity :] % self.capacity
        super().add(batch)
        self.links[rows] = 0 if ends is None else (~ends[-self.capacity :]).int().to(self.device)
        self.backs[rows] = 1

    def add_step(self, step: VectorStep) -> int:
        """Append the transitions of a vector step, each behind its world's last, and return how many they are."""
        valid = torch.ones_like(step.done) if step.valid is None else step.valid
        rows = (self.cursor + valid.cumsum(0) - 1) % self.capacity
        count = super().add_step(step)
        before = torch.where(self._last < 0, rows, self._last)
        targets, origins, links = rows, before, ((rows - before) % self.capacity).int()
        if step.valid is not None:
            targets, origins, links = rows[valid], origins[valid], links[valid]
        self.links[origins], self.backs[targets] = links, links
        self._last = torch.where(step.done, -1, torch.where(valid, rows, self._last))
        return count

    def cut(self) -> None:
        self._last.fill_(-1)

    def extend(self, other: ReplayBuffer) -> None:
        assert isinstance(other, LinkedReplay)
        rows = torch.arange(len(other), device=self.device)
        self.add(other.transitions(rows), other.links[rows] == 0)

    def clear(self) -> None:
        super().clear()
        self.cut()

    def follow(self, indices: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the rows ``[steps, B]`` from the rows `indices` ``[B]`` on, and whether there are so many.

        Where an episode has no more, the last row that there is stands again.
        """
        rows, there = [indices], [torch.ones_like(indices)]
        for _ in range(steps - 1):
            link = self.links.index_select(0, rows[-1])
            rows.append((rows[-1] + link) % self.capacity)
            there.append(there[-1] * (link > 0))
        return torch.stack(rows), torch.stack(there)

    def precede(self, indices: Tensor, steps: Tensor, most: int) -> Tensor:
        """Return the rows that are `steps` ``[B]``, `most` at most, before the rows `indices` ``[B]``.

        Where an episode began later, its first row that there is.
        """
        rows = indices
        for step in range(most):
            back = self.backs.index_select(0, rows)
            before = (rows - back) % self.capacity
            is_there = (back > 0) & (self.links.index_select(0, before) == back) & (step < steps)
            rows = torch.where(is_there, before, rows)
        return rows

    def state_dict(self) -> dict[str, Tensor]:
        """Return the filled rows, the cursor, and which row follows on which."""
        return super().state_dict() | {"links": self.links[: self.size], "last": self._last}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.links[: self.size] = state["links"].to(self.device)
        rows = self.links[: self.size].nonzero().squeeze(-1)
        self.backs[(rows + self.links[rows]) % self.capacity] = self.links[rows]
        self._last = state["last"].to(self.device)
