"""Vector environments of other libraries as `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from balrl.rollout import SUCCESS_KEYS

Array = NDArray[Any]


class StableBaselines3VectorEnv(gym.vector.VectorEnv):
    """A stable-baselines3 `VecEnv` with Gymnasium's interface and SAME_STEP autoreset.

    Its ``terminal_observation`` becomes ``infos["final_obs"]``, its ``TimeLimit.truncated`` the truncated flag, and
    every other end of an episode is a termination. Success flags are passed on.

    Args:
        env: a `stable_baselines3.common.vec_env.VecEnv`.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, env: Any) -> None:
        self.env = env
        self.num_envs = env.num_envs
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = gym.vector.utils.batch_space(env.observation_space, env.num_envs)
        self.action_space = gym.vector.utils.batch_space(env.action_space, env.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in every world; world i is seeded with `seed` + i."""
        if seed is not None:
            self.env.seed(seed)
        return self.env.reset(), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take one step in every world."""
        observations, rewards, dones, infos = self.env.step(actions)
        truncated = dones & np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        found: dict[str, Any] = {}
        if dones.any():
            final = np.full(self.num_envs, None, dtype=object)
            for index in dones.nonzero()[0]:
                final[index] = infos[index]["terminal_observation"]
            found["final_obs"] = final
        for key in SUCCESS_KEYS:
            if any(key in info for info in infos):
                flags = np.array([bool(info.get(key, False)) for info in infos])
                found |= {key: flags, "final_info": {key: flags & dones}}
        return observations, rewards, dones & ~truncated, truncated, found

    def close(self, **_: Any) -> None:
        self.env.close()
