"""A few steps of a preset on a GPU, or on a device that says that it is one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import balrl
from tests.run.small import SMALL

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
