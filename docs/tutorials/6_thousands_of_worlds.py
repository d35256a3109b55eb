"""Thousands of worlds"""

import os  # hide

# balrl's own tasks are vector environments of tensors: all worlds are one computation in torch, on a CPU or a GPU, and
# observations, rewards and flags stay where they were made. This page runs on one CPU core. On a GPU the same code
# takes `device="cuda"`.
#
# ## Stepping

import torch

import balrl

env = balrl.make_env("balrl/PointMaze-v0", num_envs=4096)
observations, _ = env.reset(seed=0)
actions = 2 * torch.rand(4096, 2) - 1
observations, rewards, terminated, truncated, infos = env.step(actions)
print(observations.shape, observations.dtype, observations.device)

# The worlds reset themselves. At the end of an episode `step` returns the first observation of the next one
# (Gymnasium's autoreset mode SAME_STEP), and `infos["final_obs"]` has the true next observation of every world, also
# where an episode ended. A learner bootstraps from that one. *Ended* and *cut* are two flags:

while not terminated.any():
    observations, rewards, terminated, truncated, infos = env.step(2 * torch.rand(4096, 2) - 1)
print(f"{int(terminated.sum())} ended, {int(truncated.sum())} cut, mean reward {rewards.mean():.4f}")
world = int(terminated.nonzero()[0])
print("final observation:", infos["final_obs"][world].numpy().round(2))
print("of the next episode:", observations[world].numpy().round(2))

# ## Steps a second
#
# How many steps a second one core makes, in 16, 256 and 4,096 worlds, with random actions:

import time

torch.set_num_threads(1)
seconds = 2.0
seconds = 0.1 if "SHORT" in os.environ else seconds  # hide


def speed(task, count):
    env = balrl.make_env(task, num_envs=count)
    env.reset(seed=0)
    dim = env.single_action_space.shape[0]
    limit = float(env.single_action_space.high[0])
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        env.step(limit * (2 * torch.rand(count, dim) - 1))
        steps += count
    return steps / (time.perf_counter() - start)


for task in ("balrl/PointMaze-v0", "balrl/Pendulum-v1"):
    for count in (16, 256, 4096):
        print(f"{task:>18} {count:>6,} worlds: {speed(task, count):>12,.0f} steps a second")

# A step costs nearly the same for few worlds as for many, until the arithmetic of the worlds outweighs the overhead of
# calling it. `balrl bench envs balrl/Pendulum-v1 --num-envs 64 1024` measures the same for any task, MuJoCo's included.
#
# ## Learning in many worlds
#
# All numbers of steps count the transitions of all worlds. So with 256 worlds one vector step is 256 environment steps,
# and `finetune.utd_ratio`, critic updates per transition, becomes small: 8 updates per vector step are 8 / 256. What
# happens every so many steps (evaluation, records, measurements, checkpoints) should be set to many vector steps.

import json
from pathlib import Path

worlds, steps = 256, 102_400
worlds, steps = (32, 32 * 20) if "SHORT" in os.environ else (worlds, steps)  # hide
settings = {
    "env": "balrl/Pendulum-v1",
    "num_envs": worlds,
    "agent.hidden": [64, 64],
    "batch_size": 512,
    "warmup.steps": 10 * worlds,
    "finetune.steps": steps,
    "finetune.utd_ratio": 8 / worlds,
    "finetune.policy_every": 2,
    "finetune.eval_every": steps // 5,
    "replay.capacity": 100_000,
    "instruments.every": steps // 5,
    "instruments.dense_steps": 0,
    "tracking.log_every": steps // 10,
    "checkpoint.every": steps,
    "evaluation.episodes": 100,
    "evaluation.num_envs": 100,
    "tracking.wandb": "off",
    "threads": 1,
}
start = time.perf_counter()
result = balrl.train(balrl.load_config("sac/point-maze", settings=settings), run_dir="pendulum")
print(f"{steps:,} steps in {time.perf_counter() - start:.0f} s, evaluations included")
for record in json.loads(Path("pendulum/evaluations.json").read_text()):
    print(f"step {record['step']:>8,}: return {record['return_mean']:8.1f}")

# ![Return over environment steps](curves.png)

import shutil  # hide

shutil.copy("pendulum/curves.png", "curves.png")  # hide

# Many worlds make the steps cheap, not the updates: at the speeds measured above the steps themselves are a small part
# of the time, and the updates are most of the rest. On a GPU more worlds and larger batches keep the device busy.
# `fastsac/worlds` is a preset for that: soft actor-critic with distributional critics, batches of 8,192 and quick
# target networks, for MuJoCo tasks simulated on the GPU (extra `warp`):
#
#     balrl train --preset fastsac/worlds --env balrl/HalfCheetah-v5
#
# For another task than HalfCheetah, give it its `agent.value_range`. The [guide](../environments.md) has the tasks,
# what differs from Gymnasium's, wrappers for tensors, films of one world among thousands, and how to bring your own.
