"""Logged experience in memory: transitions in the order in which they happened, episode after episode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balrl.errors import UserError
from balrl.returns import MonteCarlo

Array = NDArray[Any]
CHUNK = 100_000


@dataclass(frozen=True)
class Dataset:
    """N transitions, contiguous by episode.

    Attributes:
        observations: ``[N, observation_dim]`` float32.
        actions: ``[N, action_dim]`` float32, in the task's own units, as recorded.
        rewards: ``[N]`` float32, raw.
        next_observations: ``[N, observation_dim]`` float32; arbitrary where `terminated` by a file without them.
        terminated: ``[N]`` bool: the task ended here, no bootstrap.
        truncated: ``[N]`` bool: the recording was cut here, bootstrap from `next_observations`. The last row of the
            data always ends an episode.
        name: of the data.
        env_id: the environment that the data names as its own, if it does.
        rewards_from: what gave the rewards, where it is not the task itself.
        notes: what reading changed or had to assume, one sentence each.

    Raises:
        UserError: when the arrays are empty or their shapes disagree.
    """

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminated: Array
    truncated: Array
    name: str = "arrays"
    env_id: str | None = None
    rewards_from: str | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        rows = len(self.rewards)
        if rows == 0:
            raise UserError(f"dataset '{self.name}' is empty: expected at least one transition")
        for key in ("observations", "actions", "next_observations"):
            shape = getattr(self, key).shape
            if len(shape) != 2 or shape[0] != rows:
                raise UserError(
                    f"dataset '{self.name}': {key} has shape {shape}, expected ({rows}, width) to match rewards"
                )
        for key in ("rewards", "terminated", "truncated"):
            if getattr(self, key).shape != (rows,):
                raise UserError(
                    f"dataset '{self.name}': {key} has shape {getattr(self, key).shape}, expected ({rows},)"
                )
        if self.observations.shape != self.next_observations.shape:
            raise UserError(
                f"dataset '{self.name}': observations {self.observations.shape} and next_observations "
                f"{self.next_observations.shape} differ in shape"
            )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], name: str = "arrays") -> Dataset:
        """Build a dataset from a dictionary of arrays with the field names of this class.

        D4RL's ``terminals``/``timeouts`` and Minari's ``terminations``/``truncations`` are accepted as well.
        `truncated` may be absent when every episode terminates. The last row is marked truncated if nothing ends it.
        """
        aliases = {
            "terminals": "terminated",
            "terminations": "terminated",
            "timeouts": "truncated",
            "truncations": "truncated",
        }
        data = {aliases.get(key, key): np.asarray(value) for key, value in arrays.items()}
        needed = ["observations", "actions", "rewards", "next_observations", "terminated"]
        missing = [key for key in needed if key not in data]
        if missing:
            raise UserError(f"dataset '{name}' lacks {missing}; it has {sorted(arrays)}")
        terminated = data["terminated"].astype(bool)
        truncated = data.get("truncated", np.zeros(len(terminated), bool)).astype(bool)
        if len(truncated) and not (terminated[-1] or truncated[-1]):
            truncated[-1] = True
        floats: dict[str, Any] = {
            key: np.ascontiguousarray(data[key], np.float32)
            for key in ("observations", "actions", "rewards", "next_observations")
        }
        return cls(**floats, terminated=terminated, truncated=truncated, name=name)

    def __len__(self) -> int:
        return len(self.rewards)

    def chunks(self) -> list[slice]:
        """Return the rows in chunks small enough to work on in memory, where the arrays are mapped from a file."""
        return [slice(first, first + CHUNK) for first in range(0, len(self), CHUNK)]

    @cached_property
    def ends(self) -> Array:
        """``[N]`` bool: the last row of each episode."""
        ends: Array = self.terminated | self.truncated
        ends = ends.copy()
        ends[-1] = True
        return ends

    @cached_property
    def episode_slices(self) -> list[slice]:
        """The rows of each episode, in order."""
        stops = np.flatnonzero(self.ends) + 1
        return [slice(int(a), int(b)) for a, b in zip(np.r_[0, stops[:-1]], stops, strict=True)]

    @cached_property
    def episode_lengths(self) -> Array:
        """``[episodes]``, in steps."""
        return np.array([s.stop - s.start for s in self.episode_slices])

    @cached_property
    def episode_returns(self) -> Array:
        """``[episodes]``, undiscounted sums of raw rewards, in float64."""
        starts = [s.start for s in self.episode_slices]
        return np.add.reduceat(self.rewards.astype(np.float64), starts)

    def mc_returns(self, monte_carlo: MonteCarlo) -> Array:
        """Return the discounted return from every row on, ``[N]`` float32."""
        found = [monte_carlo.returns(self.rewards[s], bool(self.terminated[s.stop - 1])) for s in self.episode_slices]
        return np.concatenate(found)

    def next_actions(self) -> Array:
        """Return each next observation's action, ``[N, action_dim]``; an episode's last row repeats its own."""
        following = np.r_[self.actions[1:], self.actions[-1:]]
        return np.where(self.ends[:, None], self.actions, following)

    def select(self, rows: Array) -> Dataset:
        """Return the rows at a boolean or integer index that keeps whole episodes."""
        kept = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **kept)

    def top_fraction(self, fraction: float) -> Dataset:
        """Keep the best episodes by return, at least `fraction` of their number (and at least one): %BC's data."""
        if fraction == 1:
            return self
        count = max(1, int(np.ceil(fraction * len(self.episode_slices))))
        best = np.argsort(-self.episode_returns, kind="stable")[:count]
        rows = np.zeros(len(self), bool)
        for index in best:
            rows[self.episode_slices[index]] = True
        return self.select(rows)

    def fingerprint(self) -> str:
        """Return a hash of the contents, to recognise the same data on resume."""
        digest = hashlib.blake2b(digest_size=12)
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).data)
        return digest.hexdigest()
