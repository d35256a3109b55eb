"""A room to be kept at 20 °C through a day of half hours; heating costs, and so does freezing."""

import gymnasium as gym
import numpy as np


class Heater(gym.Env):
    """Observations: room and outdoor temperature and the time of day; action: heating power from 0 to 3 kW."""

    action_space = gym.spaces.Box(0.0, 3.0, (1,), np.float32)
    observation_space = gym.spaces.Dict(
        {
            "temperatures": gym.spaces.Box(-40.0, 60.0, (2,), np.float32),
            "clock": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        }
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_of_day, self.room = 0, self.np_random.uniform(14.0, 24.0)
        self.cold = self.np_random.uniform(-5.0, 8.0)
        return self._observe(), {}

    def step(self, action):
        power = float(action[0])
        self.room += 0.9 * power - 0.06 * (self.room - self._outdoors())
        self.step_of_day += 1
        error = abs(self.room - 20.0)
        return self._observe(), -error - 0.3 * power, False, False, {"success": error < 1.0}

    def _outdoors(self):
        return self.cold + 5.0 * np.sin(2 * np.pi * self.step_of_day / 48)

    def _observe(self):
        angle = 2 * np.pi * self.step_of_day / 48
        return {
            "temperatures": np.array([self.room, self._outdoors()], np.float32),
            "clock": np.array([np.sin(angle), np.cos(angle)], np.float32),
        }
