"""How many kernels a compiled update is on a GPU, counted without one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

BUDGETS = yaml.safe_load(Path(__file__).with_name("budgets.yaml").read_text())["compiled"]


@pytest.mark.timeout(600)
def test_compiled_updates() -> None:
    """No more than the table allows; where there are fewer, the table should be lowered."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed; make test-kernels brings it")
    command = [sys.executable, "-m", "tests.stand_in.kernels", *BUDGETS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == BUDGETS
