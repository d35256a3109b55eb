"""Your loop: an agent, batches from numpy, and nothing else of balrl's.

python own_loop.py      # from this folder; about ten seconds
"""

import gymnasium as gym
import heater  # noqa: F401  registers the task
import numpy as np
from own_data import thermostat

import balrl
from balrl.agents import IQL, IQLConfig, StateAdaptiveBalance

if __name__ == "__main__":
    env = gym.make("Heater-v0")
    agent = IQL(
        env.observation_space,
        env.action_space,
        IQLConfig(hidden=(64, 64), balance=StateAdaptiveBalance(1.0, 5.0, hidden=(32,))),
    )
    rows = thermostat(days=40)
    following = np.roll(rows["observations"], -1, 0)
    inside = np.flatnonzero(~rows["timeouts"])  # a day's last row has no successor here
    rng = np.random.default_rng(0)
    for step in range(400):
        chosen = rng.choice(inside, 128)
        batch = balrl.Batch.from_numpy(
            {
                "observations": rows["observations"][chosen],
                "actions": rows["actions"][chosen],
                "rewards": rows["rewards"][chosen],
                "next_observations": following[chosen],
                "terminated": rows["terminals"][chosen],
            },
            agent.spaces,
        )
        metrics = agent.update(batch)
        if step % 100 == 0:
            print({key: round(float(value), 3) for key, value in metrics.items()})
    agent.save("heater-agent")
    again = balrl.load_agent("heater-agent")
    observation, _ = env.reset(seed=0)
    print("heating power:", again.predict(observation, deterministic=True)[0])
    print(balrl.evaluate(again, lambda: gym.make("Heater-v0"), episodes=20).mean_return)
