"""Logged experience in memory: transitions in the order in which they happened, episode after episode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balrl.errors import UserError
from balrl.returns import MonteCarlo

Array = NDArray[Any]
CHUNK = 100_000
REQUIRED = ("observations", "actions", "rewards", "terminated")
OPTIONAL = ("truncated", "next_observations")
ALIASES = {
    "terminals": "terminated",
    "terminations": "terminated",
    "timeouts": "truncated",
    "truncations": "truncated",
}
DEFAULT_LIMIT = 1000
"""Steps of an episode in data that neither marks truncation nor comes with a task's limit: D4RL's locomotion."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """N transitions, contiguous by episode.

    Attributes:
        observations: ``[N, observation_dim]`` float32.
        actions: ``[N, action_dim]`` float32, in the task's own units, as recorded.
        rewards: ``[N]`` float32, raw; ``[N, m]`` where the task pays m rewards at once.
        next_observations: ``[N, observation_dim]`` float32; arbitrary where `terminated` by a file without them.
        terminated: ``[N]`` bool: the task ended here, no bootstrap.
        truncated: ``[N]`` bool: the recording was cut here, bootstrap from `next_observations`. The last row of the
            data always ends an episode.
        name: of the data.
        env_id: the environment that the data names as its own, if it does.
        rewards_from: what gave the rewards, where it is not the task itself.
        notes: what reading changed or had to assume, one sentence each.
        flaws: what reading found that nothing can be learned from, one sentence each.
        is_weighted: whether rewards are the weighted sum of several.

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
    flaws: tuple[str, ...] = field(default=())
    is_weighted: bool = False

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
        for key in ("terminated", "truncated"):
            if getattr(self, key).shape != (rows,):
                raise UserError(
                    f"dataset '{self.name}': {key} has shape {getattr(self, key).shape}, expected ({rows},)"
                )
        if self.rewards.ndim > 2 or (self.rewards.ndim == 2 and self.rewards.shape[1] < 2):
            raise UserError(
                f"dataset '{self.name}': rewards have shape {self.rewards.shape}, expected ({rows},), or ({rows}, m) "
                "for m rewards, at least two"
            )
        if self.observations.shape != self.next_observations.shape:
            raise UserError(
                f"dataset '{self.name}': observations {self.observations.shape} and next_observations "
                f"{self.next_observations.shape} differ in shape"
            )

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        name: str = "arrays",
        env_id: str | None = None,
        max_episode_steps: int | None = None,
        rewards_from: str | None = None,
    ) -> Dataset:
        """Build a dataset from a dictionary of arrays, with the names of this class, of D4RL or of Minari.

        That is `observations`, `actions`, `rewards`, ``terminated`` (``terminals``, ``terminations``), and optionally
        ``truncated`` (``timeouts``, ``truncations``) and `next_observations`; others are ignored.

        Without `next_observations`, ``next_observations[t] = observations[t + 1]`` inside an episode; each episode's
        last transition is dropped unless it terminated (its successor was not stored), the row before it becoming the
        truncated one, and so is the last row. Without ``truncated`` episodes are cut at `max_episode_steps`. The last
        row is marked truncated if nothing ends it.

        Args:
            arrays: of N rows each.
            name: of the data.
            env_id: the environment that they are of.
            max_episode_steps: the environment's step limit, used only without ``truncated``; `DEFAULT_LIMIT` if not
                given.
            rewards_from: what gave the rewards, where it is not the task itself.

        Raises:
            UserError: when an array is missing, empty, no numbers or of a shape that does not fit.
        """
        known = {ALIASES.get(key, key): value for key, value in arrays.items()}
        missing = [key for key in REQUIRED if key not in known]
        if missing:
            raise UserError(f"dataset '{name}' lacks {missing}; it has {sorted(arrays)}")
        data = {key: _column(key, known[key], name) for key in (*REQUIRED, *OPTIONAL) if key in known}
        if data["rewards"].size == 0:
            raise UserError(f"dataset '{name}' is empty: expected at least one transition")
        rows = len(np.atleast_1d(data["rewards"]))
        for key, values in data.items():
            is_flag = key in ("terminated", "truncated")
            if not values.shape or values.shape[0] != rows or (is_flag and values.size != rows):
                raise UserError(f"dataset '{name}': {key} has shape {values.shape}, rewards has {rows} values")
        flaws = tuple(flaw for key in ("terminated", "truncated") if key in data for flaw in _bad_flags(key, data[key]))
        terminated = data["terminated"].astype(bool).reshape(rows)
        notes = []
        if "truncated" in data:
            truncated = data["truncated"].astype(bool).reshape(rows)
        else:
            limit = max_episode_steps or DEFAULT_LIMIT
            truncated = _timeouts_from_limit(terminated, limit)
            notes.append(f"no timeouts in the data: episodes cut at {limit} steps")
        floats: dict[str, Any] = {
            key: np.ascontiguousarray(data[key], np.float32)
            for key in ("observations", "actions", "rewards", "next_observations")
            if key in data
        }
        floats["rewards"] = _vectors(floats["rewards"])
        keep = np.ones(rows, bool)
        if "next_observations" not in floats:
            observations = floats["observations"]
            floats["next_observations"] = np.concatenate([observations[1:], observations[-1:]])
            cut = truncated & ~terminated
            cut[-1] = True
            keep = ~cut
            truncated[:-1] |= cut[1:] & ~(terminated | truncated)[:-1]
            notes.append(f"no next_observations in the data: {int(cut.sum())} rows without a stored successor dropped")
            if not keep.any():
                raise UserError(f"dataset '{name}': no transition has a stored successor; add next_observations")
        if not keep.all():
            floats = {key: value[keep] for key, value in floats.items()}
            terminated, truncated = terminated[keep], truncated[keep]
        if "next_actions" in arrays and (wrong := _foreign_next_actions(arrays, terminated | truncated)):
            notes.append(
                f"next_actions are not read: at {wrong:,} episodes' ends they are the next episode's first action; an "
                "episode's last row repeats its own here"
            )
        if not (terminated[-1] or truncated[-1]):
            truncated = truncated.copy()
            truncated[-1] = True
            if keep.all():
                notes.append("the last row ended no episode: marked truncated")
        return cls(
            **floats,
            terminated=terminated,
            truncated=truncated,
            name=name,
            env_id=env_id,
            rewards_from=rewards_from,
            notes=tuple(notes),
            flaws=flaws,
        )

    def save(self, path: str | Path) -> Path:
        """Write a D4RL HDF5 file, whole or not at all, and return its path; an older file there is replaced.

        Raises:
            UserError: when it cannot be written.
        """
        from balrl.data.writer import save_d4rl

        save_d4rl(self, Path(path))
        return Path(path)

    def __repr__(self) -> str:
        size = f"{len(self):,} transitions in {len(self.episode_slices):,} episodes"
        widths = f"{self.observations.shape[1]} observations, {self.actions.shape[1]} actions"
        widths += f", {self.reward_dim} rewards" if self.reward_dim > 1 else ""
        return f"<Dataset '{self.name}'{f' of {self.env_id}' if self.env_id else ''}: {size}, {widths}>"

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

    @property
    def reward_dim(self) -> int:
        """How many rewards every transition has."""
        return 1 if self.rewards.ndim == 1 else int(self.rewards.shape[1])

    def weighted(self, weights: Sequence[float]) -> Dataset:
        """Return the data with one reward, the weighted sum of its several.

        Raises:
            UserError: for another number of weights than of rewards.
        """
        if len(weights) != self.reward_dim or self.reward_dim == 1:
            raise UserError(
                f"there are {len(weights)} reward weights, dataset '{self.name}' has {self.reward_dim} "
                f"reward{'s' if self.reward_dim > 1 else ''} per transition"
            )
        sums = self.rewards @ np.asarray(weights, np.float32)
        listed = ", ".join(f"{w:g}" for w in weights)
        source = f"{listed} times its {self.reward_dim} rewards"
        return replace(self, rewards=sums, rewards_from=source, is_weighted=True)

    def of_reward(self, index: int) -> Dataset:
        """Return the data with the `index`-th of its rewards alone."""
        return self if self.reward_dim == 1 else replace(self, rewards=np.ascontiguousarray(self.rewards[:, index]))

    @cached_property
    def episode_returns(self) -> Array:
        """``[episodes]``, undiscounted sums of raw rewards, in float64; ``[episodes, m]`` of m rewards."""
        starts = [s.start for s in self.episode_slices]
        return np.add.reduceat(self.rewards.astype(np.float64), starts, axis=0)

    def mc_returns(self, monte_carlo: MonteCarlo) -> Array:
        """Return the discounted return from every row on, ``[N]`` float32."""
        found = [monte_carlo.returns(self.rewards[s], bool(self.terminated[s.stop - 1])) for s in self.episode_slices]
        return np.concatenate(found)

    def returns_to_go(self) -> Array:
        """Return the undiscounted return from every row to its episode's end, ``[N]`` or ``[N, m]`` float32."""
        found = [np.cumsum(self.rewards[s][::-1], 0, np.float64)[::-1] for s in self.episode_slices]
        return np.concatenate(found).astype(np.float32)

    def timesteps(self) -> Array:
        """Return every row's place in its episode, from 0: ``[N]`` float32."""
        return np.concatenate([np.arange(length) for length in self.episode_lengths]).astype(np.float32)

    def next_actions(self) -> Array:
        """Return each next observation's action, ``[N, action_dim]``; an episode's last row repeats its own."""
        following = np.r_[self.actions[1:], self.actions[-1:]]
        return np.where(self.ends[:, None], self.actions, following)

    def trusted(self, share: float) -> Array:
        """Return 1 for the rows of the best share of the episodes by return, at least one, else 0: ``[N]`` float32.

        Equal episodes are treated alike: all as good as the last of the share are in it, unless those are the worst.
        """
        returns = self.episode_returns
        count = max(1, int(np.ceil(share * len(returns))))
        last, worst = np.sort(returns)[-count], returns.min()
        is_best = returns > last if last == worst and share < 1 and returns.max() > worst else returns >= last
        return np.repeat(is_best.astype(np.float32), self.episode_lengths)

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


def _column(key: str, value: Any, name: str) -> Array:
    try:
        values = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise UserError(f"dataset '{name}': {key} is no array: {error}") from error
    if values.dtype.kind not in "biuf":
        raise UserError(f"dataset '{name}': {key} holds {values.dtype}, expected numbers")
    return values


def _vectors(rewards: Array) -> Array:
    """Return rewards as ``[N]``, or ``[N, m]`` where there are several."""
    rows = rewards.reshape(len(rewards), -1)
    return rows[:, 0] if rows.shape[1] == 1 else rows


def _bad_flags(key: str, values: Array) -> list[str]:
    wrong = np.flatnonzero(~np.isin(values.reshape(-1), (0, 1)))
    if not len(wrong):
        return []
    return [
        f"{key}: {len(wrong):,} values are neither 0 nor 1, the first is {values.reshape(-1)[wrong[0]]} in row "
        f"{wrong[0]:,}: write true where an episode ended and false elsewhere"
    ]


def _foreign_next_actions(arrays: Mapping[str, Any], ends: Array) -> int:
    """Return at how many ends a file's next actions are what the next episode began with."""
    actions, following = (np.asarray(arrays[key]) for key in ("actions", "next_actions"))
    if actions.shape != following.shape or len(ends) != len(actions):
        return 0
    last = np.flatnonzero(ends[:-1])
    return int((following[last] == actions[last + 1]).all(-1).sum())


def _timeouts_from_limit(terminated: Array, limit: int) -> Array:
    """Mark every step that is the `limit`-th of its episode."""
    truncated = np.zeros(len(terminated), bool)
    length = 0
    for t, ended in enumerate(terminated):
        length += 1
        truncated[t] = length == limit
        if ended or truncated[t]:
            length = 0
    return truncated
