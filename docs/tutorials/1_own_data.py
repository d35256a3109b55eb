"""Your arrays and your task"""

import os  # hide

# You have arrays of what happened and a task to act in. Nothing needs to be converted or registered: arrays are a
# dataset, and any Gymnasium environment is a task. Here the task is Gymnasium's pendulum, and what is logged comes from
# a noisy controller that pushes along with the swing and holds the pendulum up once it is there.

import gymnasium as gym
import numpy as np

rng = np.random.default_rng(0)
env = gym.make("Pendulum-v1")
rows = {name: [] for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")}
episodes = 60
episodes = 5 if "SHORT" in os.environ else episodes  # hide
for episode in range(episodes):
    observation, _ = env.reset(seed=episode)
    truncated = False
    while not truncated:
        cos, sin, speed = observation
        pushes = np.sign(speed) if cos < 0.7 else -8 * sin - 2 * speed
        action = np.clip([pushes + rng.normal(0, 1.0)], -2, 2).astype(np.float32)
        following, reward, terminated, truncated, _ = env.step(action)
        for name, value in zip(rows, (observation, action, reward, following, terminated, truncated)):
            rows[name].append(value)
        observation = following
arrays = {name: np.array(values, np.float32) for name, values in rows.items()}
print({name: values.shape for name, values in arrays.items()})

# `terminals` says that an episode came to an end of its own, and `timeouts` that it was cut: the two are never the same
# thing to balrl, because what was cut goes on to be worth something.
#
# A run takes the arrays, and a function that makes the task:

import balrl

updates = 6000
updates = 50 if "SHORT" in os.environ else updates  # hide
config = balrl.load_config(
    "iql/locomotion",
    settings={
        "env": "Pendulum-v1",
        "pretrain.updates": updates,
        "pretrain.eval_every": updates // 4,
        "finetune.steps": 0,
        "evaluation.episodes": 20,
        "tracking.wandb": "off",
    },
)
result = balrl.train(config, dataset=arrays, env=lambda: gym.make("Pendulum-v1"), run_dir="pendulum")
returns = arrays["rewards"].reshape(len(arrays["rewards"]) // 200, 200).sum(1)
print(f"logged episodes: {returns.mean():.0f} on average, {returns.max():.0f} at best")
print(f"the policy: {result.final_score:.0f}")

# ![The run](curves.png)

import shutil  # hide

shutil.copy("pendulum/curves.png", "curves.png")  # hide

# The run's folder can be evaluated, resumed, reported on, and its policy loaded anywhere:

agent = balrl.load_agent("pendulum")
action, _ = agent.predict(env.reset(seed=1)[0], deterministic=True)
print(action)
