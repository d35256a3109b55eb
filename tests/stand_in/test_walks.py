"""A few steps of every agent in every kind of task, on a device that is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import balrl
from balrl.run.members import member_configs
from tests.run.small import PPO, SMALL
from tests.run.walks import OFFLINE, ON, ONLINE, TASKS, walk
from tests.stand_in.device import simulate_on_the_host


@pytest.mark.parametrize("preset", list(OFFLINE))
def test_with_data(preset: str, tmp_path: Path) -> None:
    walk(preset, tmp_path / "run", **{"finetune.utd_ratio": "1", **OFFLINE[preset]})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", list(ONLINE))
def test_online(preset: str, task: str, tmp_path: Path) -> None:
    if task == TASKS[2]:
        if importlib.util.find_spec("mujoco_warp") is None:
            pytest.skip("the extra 'warp' is not installed")
        simulate_on_the_host()
    settings = {"pretrain.updates": "0", "finetune.utd_ratio": "0.5", **ONLINE[preset]}
    if preset.startswith("ppo"):
        settings = {**PPO, "pretrain.updates": "0", "warmup.steps": "0", "env_kwargs": "{}"}
    walk(preset, tmp_path / "run", **settings, env=task)


def test_with_a_learned_reward(tmp_path: Path) -> None:
    learned = {"reward.pairs": "20", "reward.epochs": "2", "reward.hidden": "[8]", "reward.steps": "5"}
    names = walk("iql/point-maze", tmp_path / "run", **learned, **{"finetune.utd_ratio": "1"})
    assert any("proxy" in name for name in names), sorted(names)


def test_a_population_of_seeds(tmp_path: Path) -> None:
    config = balrl.load_config("iql/point-maze", settings={**SMALL, **ON, "finetune.utd_ratio": "1"})
    results = balrl.train_population(member_configs(config, [0, 1], {}), tmp_path / "population")
    assert len(results) == 2
    assert all(result.finished for result in results.values())
