"""An environment that fails in one way at one step of one episode, and is well otherwise."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

FAULTS: dict[str, Any] = {
    "nan-reward": lambda o: (o, float("nan"), False, False, {}),
    "infinite-reward": lambda o: (o, np.float64(np.inf), False, False, {}),
    "no-reward": lambda o: (o, None, False, False, {}),
    "text-reward": lambda o: (o, "much", False, False, {}),
    "nan-observation": lambda o: (o * np.nan, 0.0, False, False, {}),
    "short-observation": lambda o: (o[:1], 0.0, False, False, {}),
    "no-observation": lambda o: (None, 0.0, False, False, {}),
    "text-observation": lambda o: ("here", 0.0, False, False, {}),
    "no-flag": lambda o: (o, 0.0, None, False, {}),
    "four-values": lambda o: (o, 0.0, False, {}),
    "nothing": lambda o: None,
}


class FaultyEnv(gym.Env):
    """Walks on a line for `length` steps; `fault` strikes at step `at` of episode `episode`, or at every one's for
    None.

    ``raises`` raises, ``hangs`` sleeps, ``reset`` raises in `reset`; the others are `FAULTS`.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault: str | None = None, at: int = 3, episode: int | None = 1, length: int | None = 8) -> None:
        self.fault, self.at, self.episode, self.length = fault, at, episode, length
        self.episodes, self.t = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episodes, self.t = self.episodes + 1, 0
        if self.fault == "reset" and self._strikes(0):
            raise OSError("the robot is switched off")
        return np.zeros(2, np.float32), {}

    def _strikes(self, at: int | None = None) -> bool:
        return self.episode in (None, self.episodes) and (at == 0 or self.t == self.at)

    def step(self, action: Any) -> Any:
        self.t += 1
        observation = np.full(2, self.t, np.float32)
        if self.fault not in (None, "reset") and self._strikes():
            if self.fault == "raises":
                raise OSError("the robot fell over")
            if self.fault == "hangs":
                time.sleep(600)
            return FAULTS[str(self.fault)](observation)
        return observation, float(action[0]), False, self.length is not None and self.t >= self.length, {}
