"""MO-Gymnasium's tasks made known, and several rewards made one where that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorWrapper
from torch import Tensor

from balrl.errors import UserError
from balrl.spaces import reward_dim


def is_multi_objective(env_id: str) -> bool:
    """Whether a task is one of MO-Gymnasium's, by its name."""
    return env_id.rsplit("/", 1)[-1].startswith("mo-")


def register_multi_objective(env_id: str) -> None:
    """Register MO-Gymnasium's tasks with Gymnasium where one is meant, and the package is installed."""
    if is_multi_objective(env_id):
        with contextlib.suppress(ImportError):
            import mo_gymnasium  # noqa: F401


class WeightedRewards(VectorWrapper):
    """``r = Σ_i w_i r_i`` of a vector environment's rewards ``[N, m]``, numpy or tensors.

    Args:
        env: with several rewards.
        weights: w, of any size and sign.

    Raises:
        UserError: for another number of weights than of rewards.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any], weights: Sequence[float]) -> None:
        super().__init__(env)
        count = reward_dim(env)
        if count == 1 or len(weights) != count:
            raise UserError(
                f"data.reward_weights has {len(weights)} numbers, the task pays {count} "
                f"reward{'s' * (count > 1)} a step"
            )
        self.reward_space = gym.spaces.Box(-np.inf, np.inf, (), np.float32)
        self.weights = np.asarray(weights, np.float32)
        self._on_device: Tensor | None = None
        if hasattr(env, "state_dict"):
            worlds: Any = env
            self.state_dict, self.load_state_dict = worlds.state_dict, worlds.load_state_dict

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, *rest = self.env.step(actions)
        if isinstance(rewards, np.ndarray):
            return observations, rewards @ self.weights, *rest
        if self._on_device is None:
            self._on_device = torch.from_numpy(self.weights).to(rewards)
        return observations, rewards @ self._on_device, *rest
