"""Action chunks: several steps' actions chosen at once. How a replay gives them out, and how they are played."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.next_actions import VectorStep
from balrl.replay import ReplayBuffer

if TYPE_CHECKING:
    from balrl.agent import Agent

NOTHING_LEFT = 1 << 30


class ChunkReplay(ReplayBuffer):
    """A ring of single transitions that gives out chunks of h of them, from any start, without keeping one twice.

    Beside every row stands how far behind it its successor is, 0 where there is none (the episode ended, or has not
    gone on yet). A chunk from row t follows these links for h − 1 steps, so that it crosses neither an episode's end
    nor the ring's seam. With k the steps that it could go, ``k ≤ h``:

    - reward ``Σ_{i<k} γ^i r_i``, discount ``γ^k``, next observation and termination those of the k-th step. After a
      termination nothing is bootstrapped; a chunk that was cut short otherwise bootstraps from the true observation
      behind its last step, with the shorter exponent;
    - actions ``[h · step's width]``, one step's after another's; beyond k the k-th again, and `played` is 0.

    Args:
        capacity, observation_dim, device, allocate: of `ReplayBuffer`.
        action_dim: width of one step's action.
        fields: only ``trusted`` can be asked for, and is the first step's.
        chunk_size: h.
        discount: γ.
        num_envs: worlds whose steps are added.

    Raises:
        UserError: where a vector step could overwrite its predecessor.
        ValueError: for fields that are of single steps.
    """

    tensors: ClassVar[tuple[str, ...]] = (*ReplayBuffer.tensors, "links", "discount")

    def __init__(
        self,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        device: torch.device | str = "cpu",
        fields: tuple[str, ...] = (),
        allocate: Callable[[int, int], Tensor] | None = None,
        *,
        chunk_size: int,
        discount: float,
        num_envs: int = 1,
    ) -> None:
        if unfit := [field for field in fields if field != "trusted"]:
            raise ValueError(f"chunks have no {unfit[0]}")
        if capacity < 2 * num_envs:
            raise UserError(
                f"replay.capacity is {capacity:,}, expected at least {2 * num_envs:,} for chunks in {num_envs:,} worlds"
            )
        super().__init__(capacity, observation_dim, action_dim, device, fields, allocate)
        self.chunk_size = chunk_size
        self.discount = torch.tensor(discount, device=self.device)
        self.links = torch.zeros(capacity, dtype=torch.int32, device=self.device)
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

    def add_step(self, step: VectorStep) -> int:
        """Append the transitions of a vector step, each behind its world's last, and return how many they are."""
        valid = torch.ones_like(step.done) if step.valid is None else step.valid
        rows = (self.cursor + valid.cumsum(0) - 1) % self.capacity
        count = super().add_step(step)
        before = torch.where(self._last < 0, rows, self._last)
        origins, links = before, (rows - before) % self.capacity
        if step.valid is not None:
            origins, links = origins[valid], links[valid]
        self.links[origins] = links.int()
        self._last = torch.where(step.done, -1, torch.where(valid, rows, self._last))
        return count

    def cut(self) -> None:
        self._last.fill_(-1)

    def extend(self, other: ReplayBuffer) -> None:
        assert isinstance(other, ChunkReplay)
        rows = torch.arange(len(other), device=self.device)
        self.add(other.transitions(rows), other.links[rows] == 0)

    def clear(self) -> None:
        super().clear()
        self.cut()

    def gather(self, indices: Tensor) -> Batch:
        """Return the chunks from the rows `indices` ``[B]`` on."""
        rows, played = [indices], [torch.ones_like(indices)]
        for _ in range(self.chunk_size - 1):
            link = self.links.index_select(0, rows[-1])
            rows.append((rows[-1] + link) % self.capacity)
            played.append(played[-1] * (link > 0))
        steps = self.transitions(torch.cat(rows))
        first, last = slice(0, len(indices)), slice(-len(indices), None)
        was_played = torch.stack(played).to(steps.rewards.dtype)
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

    def state_dict(self) -> dict[str, Tensor]:
        """Return the filled rows, the cursor, and which row follows on which."""
        return super().state_dict() | {"links": self.links[: self.size], "last": self._last}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.links[: self.size] = state["links"].to(self.device)
        self._last = state["last"].to(self.device)


def replay_kind(agent: Agent, num_envs: int = 0) -> Callable[..., ReplayBuffer]:
    """Return what makes a replay that an agent can learn from; it takes the arguments of `ReplayBuffer`.

    Args:
        num_envs: worlds whose steps are added; none for logged data.
    """
    if agent.reward_dim > 1:
        return partial(ReplayBuffer, reward_dim=agent.reward_dim)
    if agent.config.chunk_size == 1:
        return ReplayBuffer
    return partial(ChunkReplay, chunk_size=agent.config.chunk_size, discount=agent.discount, num_envs=num_envs)


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
