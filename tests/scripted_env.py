"""An environment whose episodes are a script, so that what a collector must store can be written down."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

SCRIPT = ((3, "terminated"), (2, "truncated"), (4, "both"), (1, "terminated"))


class ScriptedEnv(gym.Env):
    """Episode k of world w has a scripted length and end; observations are ``[w, k, t]`` and the reward ``k + t / 10``.

    Success is reported on the third step of an episode only.
    """

    action_space = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)

    def __init__(self, world: int = 0, goal: bool = False) -> None:
        box = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.goal = goal
        self.observation_space = (
            gym.spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box}) if goal else box
        )
        self.world, self.episode, self.t = world, -1, 0
        self.actions: list[float] = []

    def _observe(self) -> Any:
        flat = np.array([self.world, self.episode, self.t], np.float64)
        return {"observation": flat, "achieved_goal": -flat, "desired_goal": flat + 0.5} if self.goal else flat

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(float(action[0]))
        self.t += 1
        length, kind = SCRIPT[(self.episode + self.world) % len(SCRIPT)]
        end = self.t >= length
        info = {"success": self.t == 3}
        reward = self.episode + self.t / 10
        return self._observe(), reward, end and kind != "truncated", end and kind != "terminated", info
