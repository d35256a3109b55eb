"""A few steps of every agent in every kind of task, on a device that is none."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest

import balrl
from balrl.run.members import member_configs
from tests.run.small import PPO, SMALL
from tests.stand_in.device import simulate_on_the_host

ON = {"device": "cuda", "num_envs": "4"}
OFFLINE = {
    "bc/point-maze": {"warmup.steps": "0", "finetune.steps": "0"},
    "iql/point-maze": {},
    "famo2o-iql/point-maze": {"agent.balance.hidden": "[8]"},
    "cql/point-maze": {"agent.critic_hidden": "[8]", "agent.sampled_actions": "2"},
    "calql/point-maze": {"agent.critic_hidden": "[8]", "agent.sampled_actions": "2"},
    "famo2o-cql/point-maze": {"agent.critic_hidden": "[8]", "agent.balance.hidden": "[8]"},
    "wsrl/point-maze": {"agent.critic_hidden": "[8]"},
    "rlpd/point-maze": {"agent.critic_hidden": "[8]", "pretrain.updates": "0"},
}
ONLINE = {
    "sac/point-maze": {},
    "fastsac/worlds": {"agent.critic_hidden": "[8]", "agent.value_range": "[-50, 50]", "replay.capacity": "500"},
    "ppo/classic": {},
}
TASKS = ("balrl/PointMaze-v0", "Pendulum-v1", "balrl/InvertedPendulum-v5")
"""In torch on the device, in numpy on the host, and in MuJoCo Warp."""


def walk(preset: str, path: Path, **settings: str) -> set[str]:
    """Run it, and return the names of its metrics: all of them are numbers."""
    config = balrl.load_config(preset, settings={**SMALL, **ON, **settings})
    assert balrl.train(config, path).finished
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        assert all(math.isfinite(value) for value in record.values() if isinstance(value, float)), record
    return {name for record in records for name in record}


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
