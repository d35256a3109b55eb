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


def reward_dim(env: gym.vector.VectorEnv[Any, Any, Any]) -> int:
    """Return how many rewards a task pays in a step: of its `reward_space`, or its nearest wrapper's, if there is one.

    A step of N worlds then returns rewards ``[N]`` for one, else ``[N, m]``.
    """
    while True:
        space = getattr(env, "reward_space", None)
        if space is not None:
            return _size(space)
        if not isinstance(env, gym.vector.VectorWrapper):
            return 1
        env = env.env


class SpaceAdapter:
    """Flattens observations and scales actions for one pair of spaces.

    Observations are boxes or dictionaries of them. Goal dictionaries (``observation``, ``achieved_goal``,
    ``desired_goal``) become ``[observation, desired_goal]``; of other dictionaries every box is laid out, in the order
    of the dictionary's keys. Actions are finite boxes.

    Args:
        observation_space, action_space: of the task.
        chunk_size: of so many steps' actions, one after another, an action is made here.

    Raises:
        UserError: for any other space, with what fits in its place.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], chunk_size: int = 1) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._leaves = _leaves(observation_space)
        _check_action_space(action_space)
        assert isinstance(action_space, gym.spaces.Box)
        self.observation_dim = sum(_size(space) for _, space in self._leaves)
        self.chunk_size = chunk_size
        self.step_action_dim = _size(action_space)
        self.action_dim = chunk_size * self.step_action_dim
        self._low = np.tile(np.asarray(action_space.low, np.float64), chunk_size)
        self._high = np.tile(np.asarray(action_space.high, np.float64), chunk_size)
        self._on_device: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._is_unit = bool((self._low == -1).all() and (self._high == 1).all())
        self.is_flat = not isinstance(observation_space, gym.spaces.Dict) and len(observation_space.shape or ()) == 1

    def flatten(self, observations: Any) -> Any:
        """Return ``[..., observation_dim]`` from one observation or a batch of them, numpy or tensor."""
        if self.is_flat or not self._is_structured(observations):
            return observations
        parts: list[Any] = []
        for path, space in self._leaves:
            part = observations
            for key in path:
                part = part[key]
            part = part if isinstance(part, Tensor) else np.asarray(part)
            shape = space.shape or ()
            parts.append(part.reshape(*part.shape[: part.ndim - len(shape)], -1))
        return torch.cat(parts, -1) if isinstance(parts[0], Tensor) else np.concatenate(parts, -1)

    def observation(self, observation: Any) -> tuple[Any, bool]:
        """Return one observation, or a batch of them, flat as float32 ``[B, observation_dim]``, and whether it was one.

        Raises:
            UserError: when it is not what the observation space says.
        """
        expected = f"expected {self._expected()}, or a batch of them"
        try:
            whole = observation if isinstance(observation, Mapping) else np.asarray(observation)
            flat = np.asarray(self.flatten(whole), np.float32)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f"the observation is {_short(observation)}, {expected}") from error
        if flat.ndim not in (1, 2) or flat.shape[-1] != self.observation_dim:
            raise UserError(f"the observation is {_short(observation)}, {expected}")
        return np.atleast_2d(flat), flat.ndim == 1

    def _expected(self) -> str:
        if isinstance(self.observation_space, gym.spaces.Dict):
            return f"a dictionary with the keys {sorted(self.observation_space.spaces)}"
        return f"shape {self.observation_space.shape}"

    def _is_structured(self, observations: Any) -> bool:
        """Whether observations still have the space's form; what is flat already stays as it is."""
        if isinstance(self.observation_space, gym.spaces.Dict):
            return isinstance(observations, Mapping)
        shape = self.observation_space.shape or ()
        return tuple(observations.shape[observations.ndim - len(shape) :]) == tuple(shape)

    def observations_to(self, observations: Any, device: torch.device | str) -> Tensor:
        """Return flattened observations as float32 on `device`."""
        return torch.as_tensor(self.flatten(observations)).to(device=device, dtype=torch.float32)

    def to_environment(self, actions: Any) -> Any:
        """Scale one step's actions, or chunks, from [-1, 1] to the action space's bounds, numpy or tensor."""
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
        width = like.shape[-1]
        if isinstance(like, Tensor):
            kind = (like.device, like.dtype)
            if kind not in self._on_device:
                self._on_device[kind] = (torch.as_tensor(self._low).to(like), torch.as_tensor(self._high).to(like))
            low, high = self._on_device[kind]
            return low[:width], high[:width]
        return self._low[:width].astype(like.dtype), self._high[:width].astype(like.dtype)


def _leaves(space: gym.Space[Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], gym.spaces.Box]]:
    """Return the boxes that flat observations are laid out of, each with its keys."""
    if isinstance(space, gym.spaces.Dict):
        is_goal = not path and all(key in space.spaces for key in GOAL_KEYS)
        keys = GOAL_KEYS if is_goal else tuple(space.spaces)
        return [leaf for key in keys for leaf in _leaves(space[key], (*path, str(key)))]
    where = f"observation space{''.join(f'[{key!r}]' for key in path)}"
    if not isinstance(space, gym.spaces.Box):
        raise UserError(
            f"{where} is {space}, expected a Box or a dictionary of boxes; make numbers of it with "
            "gymnasium.wrappers.FlattenObservation"
        )
    if len(space.shape) >= 2 and (space.dtype == np.uint8 or (len(space.shape) == 3 and space.shape[-1] in (1, 3, 4))):
        raise UserError(
            f"{where} is an image of shape {space.shape}: balrl learns from vectors. Encode images first (a frozen "
            "vision model in a gymnasium.ObservationWrapper), or leave them out with "
            "gymnasium.wrappers.FilterObservation"
        )
    return [(path, space)]


def _check_action_space(space: gym.Space[Any]) -> None:
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        raise UserError(
            f"action space {space} is discrete: balrl is for continuous control, actions in a bounded Box. For "
            "discrete actions take an algorithm made for them, such as stable-baselines3's DQN or d3rlpy's DiscreteCQL"
        )
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"action space {space} is not supported: expected a flat Box")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UserError(f"action space {space} is unbounded; bound it with gymnasium.wrappers.RescaleAction")
    if not (space.low < space.high).all():
        raise UserError(f"action space {space} has a lower bound that is not below its upper one")


def _size(space: gym.spaces.Box) -> int:
    return int(np.prod(space.shape))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary with the keys {sorted(map(str, value))}"
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)[:60]


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
    """Undo `space_to_json`.

    Raises:
        UserError: for what `space_to_json` does not write.
    """
    try:
        return _space(data)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, OverflowError, MemoryError) as error:
        raise UserError(f"a stored space cannot be read: {type(error).__name__} {str(error)[:80]}") from error


def _space(data: Mapping[str, Any]) -> gym.Space[Any]:
    if data["type"] == "dict":
        return gym.spaces.Dict({key: _space(s) for key, s in data["spaces"].items()})
    dtype = np.dtype(data["dtype"])
    low, high = (np.array([float(x) for x in data[k]], dtype).reshape(data["shape"]) for k in ("low", "high"))
    return gym.spaces.Box(low, high, dtype=dtype.type)
