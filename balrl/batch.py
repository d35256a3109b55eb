"""The one shape in which transitions travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.errors import UserError, did_you_mean
from balrl.spaces import SpaceAdapter

TRANSITION = ("observations", "actions", "rewards", "next_observations", "terminated")
"""The fields that every batch has."""


class Batch(NamedTuple):
    """Transitions as plain tensors on one device; ``B`` rows.

    Termination and truncation never share a flag: `terminated` is true only where the task itself ended, and
    bootstrapping masks with ``~terminated`` alone. A truncated transition carries its true last observation in
    `next_observations` and bootstraps from it.

    Attributes:
        observations: ``[B, observation_dim]`` floating point, raw (agents normalise).
        actions: ``[B, action_dim]`` floating point in [-1, 1]; of a chunk, one step's after another's.
        rewards: ``[B]`` floating point, after the run's scale and bias; ``[B, m]`` of a task with m rewards.
        next_observations: ``[B, observation_dim]``.
        terminated: ``[B]`` boolean.
        mc_returns: ``[B]``, the discounted return from this state on; only for agents that ask for it.
        next_actions: ``[B, action_dim]``, the data's action at `next_observations`; only for agents that ask for it.
        trusted: ``[B]``, 1 for rows of the data's best episodes, else 0; only for agents that ask for it.
        preferences: ``[B, m]``, under which the episode's returns rank highest among the data's; only for agents that
            ask for it.
        returns_to_go: ``[B]`` or ``[B, m]``, undiscounted, of the recording from this step on; only for agents that ask
            for it.
        timesteps: ``[B]``, of the episode, from 0; only for agents that ask for it.
        logged: ``[B]``, 1 for rows of the logged data, 0 for the agent's own; only for agents that ask for it.
        log_probs, advantages, value_targets: ``[B]``, what the policy that took the actions made of them; only in what
            comes from `balrl.on_policy.RolloutBuffer`.
        discounts: ``[B]``, of what follows; only with chunks, of which some are cut short. An agent's γ without.
        played: ``[B, chunk_size]``, 1 for a chunk's actions, 0 for those that its episode ended before. Of sequences
            (`balrl.sequences`), whose every field is ``[B, L, …]``, the same for their steps, ``[B, L]``.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    mc_returns: Tensor | None = None
    next_actions: Tensor | None = None
    trusted: Tensor | None = None
    preferences: Tensor | None = None
    returns_to_go: Tensor | None = None
    timesteps: Tensor | None = None
    log_probs: Tensor | None = None
    advantages: Tensor | None = None
    value_targets: Tensor | None = None
    discounts: Tensor | None = None
    played: Tensor | None = None
    logged: Tensor | None = None

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, Any], spaces: SpaceAdapter, device: torch.device | str = "cpu") -> Batch:
        """Return B transitions in a task's own units, as a loop of one's own collects them, ready for `Agent.update`.

        Args:
            arrays: by the names of this class: `observations` and `next_observations` as the task gives them, `actions`
                and `next_actions` within its bounds, `rewards`, `terminated`, and what else the agent asks for.
            spaces: of the agent, ``agent.spaces``: flattens observations and scales actions to [-1, 1].
            device: of the agent.

        Raises:
            UserError: naming the field, and the shape and type that were found and expected.
        """
        unknown = [key for key in arrays if key not in cls._fields]
        if unknown:
            raise UserError(f"'{unknown[0]}' is no field of a batch{did_you_mean(unknown[0], cls._fields)}")
        missing = [key for key in TRANSITION if key not in arrays]
        if missing:
            raise UserError(f"the batch lacks '{missing[0]}'; it has {sorted(arrays)}, expected {list(TRANSITION)}")
        rows = len(np.atleast_1d(np.asarray(arrays["rewards"])))
        shape = np.shape(arrays["rewards"])
        several = shape[1] if len(shape) == 2 and shape[1] > 1 else None
        widths = {
            "observations": spaces.observation_dim,
            "actions": spaces.action_dim,
            "played": spaces.chunk_size,
            "rewards": several,
            "preferences": several,
        }
        found = {}
        for key, value in arrays.items():
            width = widths.get(key.removeprefix("next_"))
            values = _numbers(key, spaces.flatten(value) if key.endswith("observations") else value)
            expected = (rows,) if width is None else (rows, width)
            if values.shape != expected:
                raise UserError(f"the batch's {key} have shape {values.shape}, expected {expected}")
            if key == "terminated" and not np.isin(values, (0, 1)).all():
                raise UserError(f"the batch's terminated hold {values[~np.isin(values, (0, 1))][0]}, expected booleans")
            if key in ("actions", "next_actions"):
                values = spaces.from_environment(values.astype(np.float32))
            found[key] = torch.tensor(values, dtype=torch.bool if key == "terminated" else torch.float32, device=device)
        return cls(**found)

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


def _numbers(key: str, value: Any) -> np.ndarray[Any, Any]:
    values = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise UserError(f"the batch's {key} hold {values.dtype}, expected numbers")
    return values
