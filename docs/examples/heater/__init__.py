"""A package with a task of its own: importing it registers Heater-v0 with Gymnasium."""

import gymnasium as gym

gym.register("Heater-v0", entry_point="heater.room:Heater", max_episode_steps=48)
