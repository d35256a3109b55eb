from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.small import TINY

BALRL = [sys.executable, "-m", "balrl"]


@pytest.mark.slow
def test_a_run_outlives_who_reads_it(tmp_path: Path) -> None:
    arguments = ["train", "--preset", "iql/point-maze", "--run-dir", str(tmp_path / "run"), *TINY]
    with subprocess.Popen([*BALRL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read().decode() == ""
        assert run.wait() == 0
    assert (tmp_path / "run" / "curves.png").exists()


def test_names_that_a_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BALRL, "data", "info", str(tmp_path / "größe-σ.hdf5")],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    )
    assert done.returncode == 2
    assert b"gr\\xf6\\xdfe-\\u03c3.hdf5" in done.stderr
    assert b"Traceback" not in done.stderr
