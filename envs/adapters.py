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


class EnvPoolVectorEnv(gym.vector.VectorEnv):
    """Worlds of ``envpool.make_gymnasium(…)`` with Gymnasium's interface; autoreset is NEXT_STEP, as EnvPool does it.

    EnvPool takes its seed when it is made, so `reset` passes none on.

    Args:
        env: made with ``batch_size`` equal to ``num_envs``, so that every step is of every world.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, env: Any) -> None:
        count, batch = env.config["num_envs"], env.config["batch_size"]
        if batch not in (0, count):
            raise ValueError(f"batch_size is {batch}, expected num_envs, {count}: every step must be of every world")
        self.env, self.num_envs = env, count
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = gym.vector.utils.batch_space(env.observation_space, count)
        self.action_space = gym.vector.utils.batch_space(env.action_space, count)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in every world."""
        return self.env.reset()[0], {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take one step in every world."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        return observations, rewards, terminated, truncated, {k: v for k, v in infos.items() if k in SUCCESS_KEYS}

    def close(self, **_: Any) -> None:
        self.env.close()
