from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import balrl
from balrl.errors import EnvironmentFault
from tests.faulty_env import FaultyEnv
from tests.run.small import SMALL

SETTINGS = {**SMALL, "pretrain.updates": 0, "warmup.steps": 8, "environment.step_timeout": 1.5, "num_envs": 1}
STUCK = """
import sys, time
import balrl
from tests.faulty_env import FaultyEnv
from tests.run.test_step_guard import SETTINGS

class Stuck(FaultyEnv):
    def step(self, action):
        deadline = time.monotonic() + 60
        while self.episodes == 5 and time.monotonic() < deadline:
            try:
                time.sleep(60)
            except Exception:
                pass  # deaf to the interruption, as code that is not Python's is
        return super().step(action)

import balrl.run.step_guard
balrl.run.step_guard.GRACE = 0.3
balrl.train(balrl.load_config("sac/point-maze", settings=SETTINGS), sys.argv[1], env=Stuck)
"""


def test_a_step_that_hangs_stops_the_run_naming_the_world(tmp_path: Path) -> None:
    config = balrl.load_config("sac/point-maze", settings=SETTINGS)
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"stopped at step 1., world 0, step 3 .*step\(\) has not returned"):
        balrl.train(config, tmp_path / "run", env=lambda: FaultyEnv("hangs", episode=1))
    assert time.monotonic() - began < 60
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["outcome"] == "failed"


def test_one_that_cannot_be_interrupted_ends_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path / "run")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 4
    assert "step() has not returned for 1.5 seconds (environment.step_timeout)" in done.stderr
    assert "and cannot be interrupted: ended" in done.stderr
