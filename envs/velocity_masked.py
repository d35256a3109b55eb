"""Tasks whose velocities are hidden: one observation does not show the state."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
from numpy.typing import NDArray
from torch import Tensor

from balrl.envs.classic import PendulumVectorEnv
from balrl.envs.torch_env import SingleTorchEnv
from balrl.errors import UserError

HOST_TASKS = {"HopperMasked-v0": ("Hopper-v5", 5), "HalfCheetahMasked-v0": ("HalfCheetah-v5", 8)}
"""Gymnasium's tasks, and how many of their observations' numbers are positions; those come first."""


class PendulumMaskedVectorEnv(PendulumVectorEnv):
    """The pendulum without its speed: observation ``[2]``, cos θ and sin θ. Everything else is the pendulum's."""

    observation_limits: ClassVar[tuple[list[float], list[float]]] = ([-1.0, -1.0], [1.0, 1.0])

    def observe(self, states: Tensor) -> Tensor:
        return super().observe(states)[:, :2]

    def states_of(self, observations: Tensor) -> Tensor:
        raise UserError("observations of the masked pendulum do not show its speed")


class PositionsOnly(gym.ObservationWrapper):
    """Shows the first `positions` numbers of an observation, and hides the velocities behind them."""

    def __init__(self, env: gym.Env[Any, Any], positions: int) -> None:
        super().__init__(env)
        space: Any = env.observation_space
        self.positions = positions
        self.observation_space = gym.spaces.Box(space.low[:positions], space.high[:positions], dtype=space.dtype)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return observation[: self.positions]


def make_pendulum_masked(**kwargs: Any) -> SingleTorchEnv:
    """Return one world as an ordinary environment."""
    return PendulumMaskedVectorEnv.single(**kwargs)


def make_masked(task: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Return a world of one of `HOST_TASKS`, its time limit left to its registration."""
    original, positions = HOST_TASKS[task]
    return PositionsOnly(gym.make(original, max_episode_steps=-1, disable_env_checker=True, **kwargs), positions)
