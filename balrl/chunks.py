"""Action chunks: several steps' actions chosen at once. How a replay gives them out, and how they are played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.linked_replay import LinkedReplay
from balrl.replay import OPTIONAL_FIELDS

NOTHING_LEFT = 1 << 30


class ChunkReplay(LinkedReplay):
    """Gives out chunks of h transitions, from any start.

    A chunk from row t follows the links for h − 1 steps. With k the steps that it could go, ``k ≤ h``:

    - reward ``Σ_{i<k} γ^i r_i``, discount ``γ^k``, next observation and termination those of the k-th step. After a
      termination nothing is bootstrapped; a chunk that was cut short otherwise bootstraps from the true observation
      behind its last step, with the shorter exponent;
    - actions ``[h · step's width]``, one step's after another's; beyond k the k-th again, and `played` is 0.

    Args:
        args, settings: of `LinkedReplay`; the width of an action is one step's. Of the optional fields only ``trusted``
            can be asked for, and is the first step's.
        chunk_size: h.
        discount: γ.

    Raises:
        UserError: where a vector step could overwrite its predecessor.
        ValueError: for fields that are of single steps.
    """

    tensors: ClassVar[tuple[str, ...]] = (*LinkedReplay.tensors, "discount")

    def __init__(self, *args: Any, chunk_size: int, discount: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if unfit := [field for field in self.fields if field in OPTIONAL_FIELDS and field != "trusted"]:
            raise ValueError(f"chunks have no {unfit[0]}")
        self.chunk_size = chunk_size
        self.discount = torch.tensor(discount, device=self.device)

    def gather(self, indices: Tensor) -> Batch:
        """Return the chunks from the rows `indices` ``[B]`` on."""
        rows, played = self.follow(indices, self.chunk_size)
        steps = self.transitions(rows.flatten())
        first, last = slice(0, len(indices)), slice(-len(indices), None)
        was_played = played.to(steps.rewards.dtype)
        powers = self.discount ** torch.arange(self.chunk_size, device=self.device).unsqueeze(-1)
        return Batch(
            steps.observations[first],
            steps.actions.unflatten(0, was_played.shape).transpose(0, 1).flatten(1),
            (powers * was_played * steps.rewards.view_as(was_played)).sum(0),
            steps.next_observations[last],  # rows stay at the last step that there is
            steps.terminated[last],
            trusted=None if steps.trusted is None else steps.trusted[first],
            discounts=self.discount ** was_played.sum(0),
            played=was_played.T,
        )


class Queue(NamedTuple):
    """What is still to be played in N worlds.

    Attributes:
        chunks: ``[N, chunk_size · action_dim]``; of width 0 where the policy chooses one step's action at a time.
        position: ``[N]``, how many steps of them were played.
    """

    chunks: Tensor
    position: Tensor

    @classmethod
    def empty(cls, num_envs: int, device: torch.device | str = "cpu") -> Queue:
        """Return one with nothing to play."""
        return cls(torch.zeros(num_envs, 0, device=device), torch.zeros(num_envs, dtype=torch.int64, device=device))

    def over(self, ended: Tensor) -> Queue:
        """Return what is left where the worlds `ended` ``[N]`` have nothing left to play."""
        if self.chunks.shape[-1] == 0:
            return self
        return self._replace(position=torch.where(ended, NOTHING_LEFT, self.position))


def play(
    policy: Callable[[Tensor], Tensor], observations: Tensor, queue: Queue, action_dim: int
) -> tuple[Tensor, Queue]:
    """Return this step's actions ``[N, action_dim]``, and what is left to play.

    A policy may return several steps' actions at once, ``[N, chunk_size · action_dim]``. They are played one after
    another, open-loop, and it is asked anew in each world where there is nothing left. (On a CPU it is not asked at all
    where every world has something; a GPU would have to wait for that answer.)
    """
    chunks, position = queue
    is_empty = chunks.shape[-1] == 0
    due = None if is_empty else position * action_dim >= chunks.shape[-1]
    if due is None or chunks.is_cuda or bool(due.any()):
        chosen = policy(observations)
        if chosen.shape[-1] == action_dim:
            return chosen, queue if is_empty else Queue(chosen[:, :0], position)
        if due is None or chunks.shape != chosen.shape:
            chunks, due = chosen, torch.ones_like(position, dtype=torch.bool)
        chunks, position = torch.where(due.unsqueeze(-1), chosen, chunks), torch.where(due, 0, position)
    steps = chunks.unflatten(-1, (-1, action_dim))
    index: Any = position.view(-1, 1, 1).expand(-1, 1, action_dim)
    return steps.gather(1, index).squeeze(1), Queue(chunks, position + 1)


def play_on(
    policy: Callable[[Tensor], Tensor],
    observations: Tensor,
    state: tuple[np.ndarray[Any, Any], ...] | None,
    episode_start: Any,
    action_dim: int,
) -> tuple[Tensor, tuple[np.ndarray[Any, Any], ...]]:
    """Return what `play` does, for a queue that somebody keeps as numpy arrays; without one it begins empty.

    Raises:
        UserError: when the queue or `episode_start` is of another number of worlds.
    """
    device, worlds = observations.device, len(observations)
    queue = Queue.empty(worlds, device)
    if state is not None:
        queue = Queue(*(torch.from_numpy(kept).to(device) for kept in state))
        if len(queue.position) != worlds:
            raise UserError(f"the state is of {len(queue.position)} worlds, there are {worlds} observations")
    if episode_start is not None:
        begins = torch.as_tensor(np.atleast_1d(episode_start), dtype=torch.bool, device=device)
        if len(begins) not in (1, worlds):
            raise UserError(f"episode_start is of {len(begins)} worlds, there are {worlds} observations")
        queue = queue.over(begins.expand(worlds))
    actions, queue = play(policy, observations, queue, action_dim)
    return actions, tuple(kept.cpu().numpy() for kept in queue)
