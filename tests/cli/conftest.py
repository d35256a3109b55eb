"""Runs that the command line has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main
from tests.cli.small import TINY


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "--preset", "famo2o-iql/point-maze", "--run-dir", str(path), *TINY]) == 0
    return path


@pytest.fixture(scope="session")
def fixed_run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "fixed"
    assert main(["train", "--preset", "iql/point-maze", "--run-dir", str(path), *TINY]) == 0
    return path
