"""morl-baselines' CAPQL, trained and evaluated once: a worker of study_several.py for an interpreter that has it.

The package wants other versions of some libraries than balrl's; it gets an environment of its own:
``python -m venv capql && capql/bin/pip install morl-baselines mujoco``. Reads one JSON object from the standard input
(env, seed, steps, preferences, episodes, evaluation_seed) and writes one to the standard output.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

import mo_gymnasium
import numpy as np
import torch
from morl_baselines.multi_policy.capql.capql import CAPQL


def main() -> None:
    job: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(1)
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002
    torch.manual_seed(job["seed"])
    env, eval_env = mo_gymnasium.make(job["env"]), mo_gymnasium.make(job["env"])
    env.reset(seed=job["seed"])
    env.action_space.seed(job["seed"])
    agent = CAPQL(env, log=False, seed=job["seed"], device="cpu")
    began = time.perf_counter()
    agent.train(
        total_timesteps=job["steps"],
        eval_env=eval_env,
        ref_point=np.full(env.unwrapped.reward_dim, -100.0),
        eval_freq=10**9,
    )
    seconds = time.perf_counter() - began
    vectors = []
    for w in job["preferences"]:
        preference = np.asarray(w, np.float32)
        for episode in range(job["episodes"]):
            observation, _ = eval_env.reset(seed=job["evaluation_seed"] + episode)
            total, done = np.zeros(len(w)), False
            while not done:
                observation, reward, terminated, truncated, _ = eval_env.step(agent.eval(observation, preference))
                total, done = total + reward, terminated or truncated
            vectors.append(total.tolist())
    json.dump({"vectors": vectors, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
