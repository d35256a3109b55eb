"""A world that is not trusted: what it returns is checked before anything is learned from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np

from balrl.errors import EnvironmentFault, first_line, shorten
from balrl.rollout import ABORTED

NUMBERS, FLAGS = (float, np.float64, np.float32), (bool, np.bool_)
MOST_IN_A_ROW = 100
"""Faults without a good step between them after which a world is given up."""


class CheckedWorld(gym.Wrapper):
    """Passes one world on, and stops it where it returns what no task returns.

    An exception, an observation or reward that is missing, of another shape, NaN or infinite is an `EnvironmentFault`
    that names the world, its step and the field. With `ends_episode` it ends the episode instead: the step counts as
    truncated, with the last good observation, no reward and `ABORTED` in its info.

    Args:
        env: one world.
        index: which of them it is.
        ends_episode: go on with a new episode after a fault.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int, ends_episode: bool = False) -> None:
        super().__init__(env)
        self.index, self.ends_episode = index, ends_episode
        space = getattr(env.unwrapped, "reward_space", None)
        self.rewards_shape: tuple[int, ...] = () if space is None or space.shape in ((), (1,)) else space.shape
        self._in_a_row, self.steps = 0, 0
        self._last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        try:
            result = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._fault("reset", _raised(error)) from error
        if not (isinstance(result, tuple) and len(result) == 2):
            raise self._fault("reset", f"is {shorten(result)}, expected (observation, info)")
        wrong = _wrong_observation(result[0], self.observation_space)
        if wrong:
            raise self._fault(*wrong)
        self._remember(result[0])
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        try:
            result = self.env.step(action)
            wrong = None if self._is_plain(result) else _wrong_step(result, self.observation_space, self.rewards_shape)
        except EnvironmentFault:
            raise
        except Exception as error:
            if not self.ends_episode:
                raise self._fault("step", _raised(error)) from error
            wrong = ("step", _raised(error))
        if wrong is None:
            self._remember(result[0])
            self._in_a_row = 0
            return result
        self._in_a_row += 1
        if not self.ends_episode or self._in_a_row >= MOST_IN_A_ROW:
            raise self._fault(*wrong)
        return self._last, 0.0, False, True, {ABORTED: True}

    def _is_plain(self, result: Any) -> bool:
        """Whether a step returned what most steps return, and all is well; told in a few microseconds."""
        observation, reward, terminated, truncated, _ = result
        return (
            not self.rewards_shape
            and type(observation) is np.ndarray
            and observation.shape == self.observation_space.shape
            and type(reward) in NUMBERS
            and type(terminated) in FLAGS
            and type(truncated) in FLAGS
            and math.isfinite(reward)
            and math.isfinite(observation.sum())
        )

    def _remember(self, observation: Any) -> None:
        if self.ends_episode:
            self._last = copy.deepcopy(observation)  # a task may write the next one into the same memory

    def _fault(self, field: str, found: str) -> EnvironmentFault:
        return EnvironmentFault(f"world {self.index}, step {self.steps:,} of its episode: {field} {found}")


def _wrong_step(result: Any, space: gym.Space[Any], rewards_shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Return the first field of a step's result that is wrong, and how; None if all is well."""
    if not (isinstance(result, tuple) and len(result) == 5):
        return "step", f"is {shorten(result)}, expected (observation, reward, terminated, truncated, info)"
    observation, reward, terminated, truncated, _ = result
    if rewards_shape:
        if np.shape(reward) != rewards_shape or not np.isfinite(reward).all():
            return "reward", f"is {shorten(reward)}, expected {rewards_shape[0]} finite numbers"
    elif not _is_number(reward):
        return "reward", f"is {shorten(reward)}, expected a finite number"
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_ | int | np.integer):
            return name, f"is {shorten(flag)}, expected true or false"
    return _wrong_observation(observation, space)


def _wrong_observation(observation: Any, space: gym.Space[Any], name: str = "observation") -> tuple[str, str] | None:
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, Mapping) or not space.spaces.keys() <= observation.keys():
            return name, f"is {shorten(observation)}, expected a dictionary with the keys {sorted(space.spaces)}"
        parts = (_wrong_observation(observation[key], part, f"{name}[{key!r}]") for key, part in space.spaces.items())
        return next((wrong for wrong in parts if wrong), None)
    try:
        values = np.asarray(observation, np.float64)
    except (TypeError, ValueError):
        return name, f"is {shorten(observation)}, expected numbers of shape {space.shape}"
    if values.shape != space.shape:
        return name, f"has shape {values.shape}, expected {space.shape}"
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        return name, f"is {values[where]} at {list(where)}, expected finite numbers"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.ndarray) and np.size(value) == 1 and bool(np.isfinite(value).all())  # type: ignore[arg-type]


def _raised(error: Exception) -> str:
    return f"raised {type(error).__name__}: {first_line(error)}"[:200]
