"""Small runs, ways to stop them, and what is left of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.run.presets import TrainConfig
from balrl.watch.callbacks import Status
from balrl.watch.display import Display
from balrl.watch.tracking import read_metrics

SMALL = {
    "pretrain.updates": "12",
    "pretrain.eval_every": "6",
    "warmup.steps": "20",
    "finetune.steps": "40",
    "finetune.eval_every": "20",
    "batch_size": "16",
    "evaluation.episodes": "2",
    "checkpoint.every": "10",
    "tracking.log_every": "5",
    "tracking.wandb": "off",
    "threads": "1",
    "agent.hidden": "[8, 8]",
    "env_kwargs": "{max_episode_steps: 15}",
}


FAMILY = {
    **SMALL,
    "num_envs": "10",
    "finetune.utd_ratio": "1",
    "agent.balance.hidden": "[8]",
}


HOPPER = {"env": "Hopper-v5", "env_kwargs": "{}", "dataset": "null", "pretrain.updates": "0", "warmup.steps": "30"}


PPO = {
    **{key: value for key, value in SMALL.items() if key not in ("pretrain.updates", "warmup.steps")},
    "num_envs": "3",
    "agent.rollout_steps": "4",
    "agent.epochs": "2",
    "batch_size": "5",
    "agent.kl_coefficient": "0.1",
    "agent.kl_target": "0.01",
    "env_kwargs": "{max_episode_steps: 5}",
}


def maze_config(**settings: str) -> TrainConfig:
    return balrl.load_config("famo2o-iql/point-maze", settings={**FAMILY, **settings})


def hopper_config(**settings: str) -> TrainConfig:
    return balrl.load_config("sac/locomotion", settings={**SMALL, **HOPPER, **settings})


class Interrupt(Display):
    """Ends the run at a step: by an exception, as a crash would, or by Ctrl-C."""

    def __init__(self, step: int, crash: bool) -> None:
        self.step, self.crash, self.done = step, crash, False

    def on_step(self, status: Status) -> None:
        if status.step >= self.step and not self.done:
            self.done = True
            if self.crash:
                raise RuntimeError("the power went out")
            os.kill(os.getpid(), signal.SIGINT)


class Listening(Display):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard = ""

    def notice(self, message: str) -> None:
        self.heard += message


def final_state(run_dir: Path) -> dict[str, torch.Tensor]:
    path = list_checkpoints(run_dir)[0]
    return {
        f"{group}/{key}": value
        for group in ("agent", "optimizer", "random")
        for key, value in load_tensors(path, group).items()
    }


def records(run_dir: Path) -> list[Mapping[str, Any]]:
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in read_metrics(run_dir / "metrics.jsonl")]
