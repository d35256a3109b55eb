"""A sweep of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balrl.plain_yaml import parse_yaml
from balrl.settings import validate
from balrl.sweep.folder import SweepFolder, begin_sweep
from balrl.sweep.spec import SweepConfig
from tests.run.small import SMALL

SETTINGS: dict[str, Any] = {key: parse_yaml(value, key) for key, value in SMALL.items()}
SWEEP: dict[str, Any] = {
    "presets": {
        "WSRL": {"preset": "wsrl/point-maze", "from": "calql"},
        "IQL": {"preset": "iql/point-maze"},
    },
    "pretrain": {"calql": {"preset": "calql/point-maze", "agent.sampled_actions": 2}},
    "seeds": [0, 1],
    "settings": {**SETTINGS, "env_kwargs": {"max_episode_steps": 15}},
}


def spec(**changes: Any) -> SweepConfig:
    return validate(SweepConfig, {**SWEEP, **changes}, "the sweep")


def small_sweep(path: Path, retry: int = 3, **changes: Any) -> SweepFolder:
    return begin_sweep(path, spec(**changes), {**SWEEP, **changes}, retry=retry)
