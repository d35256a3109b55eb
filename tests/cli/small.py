"""A run that takes a second, and data that does not fit it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

TINY = [
    "pretrain.updates=4", "pretrain.eval_every=4", "warmup.steps=10", "finetune.steps=10", "evaluation.episodes=2",
    "batch_size=8", "tracking.wandb=off", "env_kwargs={max_episode_steps: 10}",
]  # fmt: skip


def write_hopper_like(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["observations"] = file["next_observations"] = np.zeros((20, 11))
        file["actions"] = np.zeros((20, 3))
        file["rewards"] = np.arange(20.0)
        file["terminals"] = np.zeros(20, bool)
        file["timeouts"] = np.arange(20) % 5 == 4
    return path
