"""Device-resident replay: storage, sampling, and mixtures of offline and online data."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.next_actions import VectorStep
from balrl.random_stream import RandomStream

SCALARS = ("terminated", "mc_returns", "trusted", "timesteps", "logged")
RELABELLED = 65_536
OPTIONAL_FIELDS = ("mc_returns", "next_actions", "trusted", "preferences", "returns_to_go", "timesteps", "logged")


class Sampler(Protocol):
    """Anything that an agent's batches can be drawn from."""

    def sample(self, batch_size: int, batches: int = 1, stream: RandomStream | None = None) -> Batch: ...
    def is_ready(self, batch_size: int) -> bool: ...


class ReplayBuffer:
    """A ring of transitions in one packed ``[capacity, width]`` float32 tensor on one device.

    One tensor, because a batch is then one gather. Sampling is uniform with replacement from the rows that are there.

    Args:
        capacity: rows; the oldest are overwritten when it is full.
        observation_dim: width of an observation.
        action_dim: width of an action.
        device: where the storage lives and batches come from.
        fields: the optional columns to keep, of `OPTIONAL_FIELDS`.
        allocate: makes the storage from rows and width; by default zeros on the device.
        reward_dim: how many rewards a transition has.

    Raises:
        UserError: when the storage would not fit into the device's free memory; the message says how much is needed.
    """

    tensors: ClassVar[tuple[str, ...]] = ("storage", "_filled")
    """The attributes that sampling reads."""

    def __init__(
        self,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        device: torch.device | str = "cpu",
        fields: tuple[str, ...] = (),
        allocate: Callable[[int, int], Tensor] | None = None,
        reward_dim: int = 1,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        widths = {
            "observations": observation_dim,
            "actions": action_dim,
            "rewards": reward_dim,
            "next_observations": observation_dim,
            "terminated": 1,
            "mc_returns": 1,
            "next_actions": action_dim,
            "trusted": 1,
            "preferences": reward_dim,
            "returns_to_go": reward_dim,
            "timesteps": 1,
            "logged": 1,
        }
        self.scalars = SCALARS if reward_dim > 1 else (*SCALARS, "rewards", "returns_to_go")
        self.fields = tuple(f for f in widths if f not in OPTIONAL_FIELDS or f in fields)
        self._widths = [widths[f] for f in self.fields]
        self.capacity = capacity
        self.device = torch.device(device)
        if allocate is None:
            check_memory(capacity * sum(self._widths) * 4, self.device)
            self.storage = torch.zeros(capacity, sum(self._widths), device=self.device)
        else:
            self.storage = allocate(capacity, sum(self._widths))
        self.size = 0
        self.cursor = 0
        self._filled = torch.zeros((), dtype=torch.int64, device=self.device)  # the size, where updates can see it grow

    def __len__(self) -> int:
        return self.size

    def add(self, batch: Batch, ends: Tensor | None = None) -> None:
        """Append the rows of a batch over the oldest; of more than `capacity` rows, the last.

        Args:
            ends: ``[B]`` bool, rows that the next row does not follow on; for buffers that give out chunks.
        """
        columns = self._columns(batch)
        count = columns[0].shape[0]
        end = self.cursor + count
        if end <= self.capacity:
            torch.cat(columns, -1, out=self.storage[self.cursor : end])
        else:
            rows = torch.cat(columns, -1)[-self.capacity :]
            count = rows.shape[0]
            first = min(count, self.capacity - self.cursor)
            self.storage[self.cursor : self.cursor + first] = rows[:first]
            self.storage[: count - first] = rows[first:]
        self.cursor = (self.cursor + count) % self.capacity
        self._resize(min(self.size + count, self.capacity))

    def add_step(self, step: VectorStep) -> int:
        """Append the transitions of a vector step, and return how many they are."""
        batch = step.batch if step.valid is None else step.batch.rows(step.valid)
        self.add(batch)
        return len(batch.rewards)

    def cut(self) -> None:
        """Note that the worlds begin anew: what comes next follows on nothing."""

    def extend(self, other: ReplayBuffer) -> None:
        """Append every row of another buffer of the same kind, which was never full."""
        self.add(other.transitions(torch.arange(len(other), device=self.device)))

    def clear(self) -> None:
        """Forget every row."""
        self.cursor = 0
        self._resize(0)

    def is_ready(self, batch_size: int) -> bool:
        """Return whether there are as many rows as a batch has."""
        return self.size >= batch_size

    def sample(self, batch_size: int, batches: int = 1, stream: RandomStream | None = None) -> Batch:
        """Draw the rows of `batches` batches, one after another, uniformly and with replacement.

        Args:
            batch_size: rows of a batch.
            batches: how many.
            stream: where the random numbers come from; torch's global generator if None.
        """
        return self.gather(self._drawn(batches * batch_size, stream))

    def _drawn(self, count: int, stream: RandomStream | None) -> Tensor:
        """Return rows ``[count]``, uniform and with replacement."""
        if self.size == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        if stream is None:
            return torch.randint(self.size, (count,), device=self.device)
        return stream.integers(self._filled, count)

    def newest(self, count: int) -> Batch:
        """Return the `count` rows that were added last, the newest last."""
        return self.gather(self.newest_rows(count))

    def newest_rows(self, count: int) -> Tensor:
        """Return which rows ``[count]`` were added last, the newest last."""
        if not 0 < count <= self.size:
            raise ValueError(f"count is {count}, expected 1 to {self.size}")
        steps = torch.arange(self.cursor - count, self.cursor, device=self.device)
        return steps % self.capacity

    def subsample(self, count: int, stream: RandomStream) -> Batch:
        """Draw up to `count` different rows."""
        return self.gather(stream.subset(min(count, self.size), self.size))

    def relabel(self, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace every reward by ``reward(observations, actions)``, ``[B]`` or ``[B, m]``, in parts of `RELABELLED`.

        Raises:
            ValueError: where Monte-Carlo returns are kept, which would be those of the old rewards.
        """
        if "mc_returns" in self.fields:
            raise ValueError("this buffer keeps Monte-Carlo returns of its rewards, which cannot be relabelled")
        index = self.fields.index("rewards")
        column, width = sum(self._widths[:index]), self._widths[index]
        for first in range(0, self.size, RELABELLED):
            rows = slice(first, min(first + RELABELLED, self.size))
            batch = self.transitions(torch.arange(rows.start, rows.stop, device=self.device))
            found = reward(batch.observations, batch.actions)
            self.storage[rows, column : column + width] = found.view(-1, width)

    def gather(self, indices: Tensor) -> Batch:
        """Return what is learned from at the rows `indices` ``[B]``, counted in the order of storage."""
        return self.transitions(indices)

    def transitions(self, indices: Tensor) -> Batch:
        """Return the rows at `indices` ``[B]``, counted in the order of storage."""
        columns = self.storage.index_select(0, indices).split(self._widths, -1)
        values = {
            field: column.squeeze(-1) if field in self.scalars else column
            for field, column in zip(self.fields, columns, strict=True)
        }
        values["terminated"] = values["terminated"] > 0.5
        return Batch(**values)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the filled rows and the cursor."""
        return {"rows": self.storage[: self.size], "cursor": torch.tensor(self.cursor)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        rows = state["rows"]
        if rows.shape[0] > self.capacity or rows.shape[1] != self.storage.shape[1]:
            raise ValueError(f"stored replay has shape {tuple(rows.shape)}, this buffer {tuple(self.storage.shape)}")
        self._resize(rows.shape[0])
        self.storage[: self.size] = rows.to(self.device)
        self.cursor = int(state["cursor"])

    def _resize(self, size: int) -> None:
        self.size = size
        self._filled.fill_(size)

    def _columns(self, batch: Batch) -> list[Tensor]:
        """Return what is kept of a batch, each ``[B, width]``."""
        columns = []
        for field in self.fields:
            column = getattr(batch, field)
            if column is None:
                raise ValueError(f"this buffer keeps '{field}', the batch to add has none")
            column = column.to(self.device, torch.float32)
            columns.append(column.unsqueeze(-1) if field in self.scalars else column)
        return columns


class MixedReplay:
    """Batches of which a fixed share comes from offline data and the rest from online data.

    Args:
        offline: sampled for ``round(offline_ratio · batch_size)`` rows of each batch, which stand first in it.
        online: sampled for the rest.
        offline_ratio: in [0, 1]; 0.5 is RLPD's symmetric sampling (arXiv 2302.02948).
    """

    def __init__(self, offline: ReplayBuffer, online: ReplayBuffer, offline_ratio: float) -> None:
        if not 0 <= offline_ratio <= 1:
            raise ValueError(f"offline_ratio is {offline_ratio}, expected a number in [0, 1]")
        self.offline, self.online, self.offline_ratio = offline, online, offline_ratio

    def is_ready(self, batch_size: int) -> bool:
        """Return whether there are as many online rows as a batch takes."""
        return len(self.online) >= batch_size - round(self.offline_ratio * batch_size)

    def sample(self, batch_size: int, batches: int = 1, stream: RandomStream | None = None) -> Batch:
        """Draw the rows of `batches` batches, one after another, each with its share of offline rows."""
        drawn = [self._sample_one(batch_size, stream) for _ in range(batches)]
        return drawn[0] if batches == 1 else reduce(Batch.join, drawn)

    def _sample_one(self, batch_size: int, stream: RandomStream | None) -> Batch:
        offline_rows = round(self.offline_ratio * batch_size)
        if offline_rows == 0:
            return self.online.sample(batch_size, 1, stream)
        if offline_rows == batch_size:
            return self.offline.sample(batch_size, 1, stream)
        offline = self.offline.sample(offline_rows, 1, stream)
        return offline.join(self.online.sample(batch_size - offline_rows, 1, stream))


def check_memory(needed: int, device: torch.device) -> None:
    """Raise a `UserError` if `needed` bytes are not free on `device`."""
    free = free_memory(device)
    if free is not None and needed > free:
        raise UserError(
            f"the replay needs {needed / 2**30:.1f} GiB on {device}, {free / 2**30:.1f} GiB are free; "
            "lower replay.capacity, or, for logged data, give data.disk=FOLDER"
        )


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes on `device`, or None where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as lines:
            fields: dict[str, Any] = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        names = getattr(os, "sysconf_names", {})
        if "SC_AVPHYS_PAGES" in names:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None
