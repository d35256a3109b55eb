"""gymnasium-robotics' tasks: made known, and what a policy must see of them shown to it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

Adapter = Callable[[Mapping[str, Any]], dict[str, Any]]


def register_robotics() -> None:
    """Register gymnasium-robotics' tasks with Gymnasium where it is installed."""
    with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # prints a note on Adroit's rewards, which stands in docs/data.md

        gym.register_envs(gymnasium_robotics)


def observation_adapter(env_id: str) -> Adapter | None:
    """Return what a task's goal dictionaries go through, in the environment and in data; None for most tasks."""
    return with_position if env_id.rsplit("/", 1)[-1].startswith("AntMaze") else None


def with_position(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Put the ant's place in front of its observation, as D4RL has it; the task gives it as the achieved goal only."""
    place, body = observation["achieved_goal"], observation["observation"]
    return {**observation, "observation": np.concatenate([place, body], -1)}


class AdaptedObservation(gym.ObservationWrapper):
    """Applies an adapter to every observation and to the space.

    Args:
        env: with goal-dictionary observations.
        adapter: of `observation_adapter`.
    """

    def __init__(self, env: gym.Env[Any, Any], adapter: Adapter) -> None:
        super().__init__(env)
        self.adapter = adapter
        spaces: Any = env.observation_space
        low, high = (adapter({k: getattr(s, side) for k, s in spaces.items()}) for side in ("low", "high"))
        self.observation_space = gym.spaces.Dict(
            {key: gym.spaces.Box(low[key], high[key], dtype=spaces[key].dtype) for key in spaces.spaces}
        )

    def observation(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return self.adapter(observation)
