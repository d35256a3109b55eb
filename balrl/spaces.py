"""From a task's spaces to flat observations and actions in [-1, 1], and back.

Inside balrl observations are flat vectors and actions lie in [-1, 1]; outside they are what the task's spaces say. This
is the only place that converts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.errors import UserError

GOAL_KEYS = ("observation", "desired_goal")


class SpaceAdapter:
    """Flattens observations and scales actions for one pair of spaces.

    Goal dictionaries (``observation``, ``achieved_goal``, ``desired_goal``) become ``[observation, desired_goal]``;
    other observations must be flat boxes, and actions finite boxes.

    Raises:
        UserError: for any other space.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        if isinstance(observation_space, gym.spaces.Dict):
            missing = [k for k in GOAL_KEYS if k not in observation_space.spaces]
            if missing:
                raise UserError(
                    f"observation dictionary has keys {sorted(observation_space.spaces)}, expected a goal dictionary "
                    f"with {list(GOAL_KEYS)}; flatten it with gymnasium.wrappers.FlattenObservation"
                )
            parts = [observation_space[key] for key in GOAL_KEYS]
        else:
            parts = [observation_space]
        for part in parts:
            if not isinstance(part, gym.spaces.Box) or len(part.shape) != 1:
                raise UserError(
                    f"observation space {part} is not supported: expected a flat Box or a goal dictionary; "
                    "flatten it with gymnasium.wrappers.FlattenObservation"
                )
        if not isinstance(action_space, gym.spaces.Box) or len(action_space.shape) != 1:
            raise UserError(f"action space {action_space} is not supported: expected a flat Box")
        if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
            raise UserError(f"action space {action_space} is unbounded; bound it with gymnasium.wrappers.RescaleAction")
        self.is_goal_dictionary = isinstance(observation_space, gym.spaces.Dict)
        self.observation_dim = sum(int(p.shape[0]) for p in parts if p.shape)
        self.action_dim = int(action_space.shape[0])
        self._low = np.asarray(action_space.low, np.float64)
        self._high = np.asarray(action_space.high, np.float64)
        self._on_device: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._is_unit = bool((self._low == -1).all() and (self._high == 1).all())

    def flatten(self, observations: Any) -> Any:
        """Return ``[..., observation_dim]`` from one observation or a batch of them, numpy or tensor."""
        if not isinstance(observations, Mapping):
            return observations
        parts = [observations[key] for key in GOAL_KEYS]
        return torch.cat(parts, -1) if isinstance(parts[0], Tensor) else np.concatenate(parts, -1)

    def observations_to(self, observations: Any, device: torch.device | str) -> Tensor:
        """Return flattened observations as float32 on `device`."""
        return torch.as_tensor(self.flatten(observations)).to(device=device, dtype=torch.float32)

    def to_environment(self, actions: Any) -> Any:
        """Scale actions from [-1, 1] to the action space's bounds, numpy or tensor."""
        if self._is_unit:
            return actions
        low, high = self._bounds(actions)
        return low + 0.5 * (actions + 1.0) * (high - low)

    def from_environment(self, actions: Any) -> Any:
        """Scale actions from the action space's bounds to [-1, 1], numpy or tensor."""
        if self._is_unit:
            return actions
        low, high = self._bounds(actions)
        return 2.0 * (actions - low) / (high - low) - 1.0

    def _bounds(self, like: Any) -> tuple[Any, Any]:
        if isinstance(like, Tensor):
            kind = (like.device, like.dtype)
            if kind not in self._on_device:
                self._on_device[kind] = (torch.as_tensor(self._low).to(like), torch.as_tensor(self._high).to(like))
            return self._on_device[kind]
        return self._low.astype(like.dtype), self._high.astype(like.dtype)


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Describe a Box, or a dictionary of them, in plain JSON types (non-finite bounds as strings)."""
    if isinstance(space, gym.spaces.Dict):
        return {"type": "dict", "spaces": {key: space_to_json(s) for key, s in space.spaces.items()}}
    if isinstance(space, gym.spaces.Box):
        return {
            "type": "box",
            "low": [str(x) for x in space.low.ravel().tolist()],
            "high": [str(x) for x in space.high.ravel().tolist()],
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    raise UserError(f"space {space} cannot be stored: expected a Box or a dictionary of boxes")


def space_from_json(data: Mapping[str, Any]) -> gym.Space[Any]:
    """Undo `space_to_json`."""
    if data["type"] == "dict":
        return gym.spaces.Dict({key: space_from_json(s) for key, s in data["spaces"].items()})
    dtype = np.dtype(data["dtype"])
    low, high = (np.array([float(x) for x in data[k]], dtype).reshape(data["shape"]) for k in ("low", "high"))
    return gym.spaces.Box(low, high, dtype=dtype.type)
