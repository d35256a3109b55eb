"""`balrl data`."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from balrl.cli.main import main


def test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", "point-maze-mixed"]) == 0
    assert "20,000" in capsys.readouterr().out
    assert main(["data", "check", "point-maze-mixed", "--env", "balrl/PointMaze-v0"]) == 0
    assert "nothing found" in capsys.readouterr().out
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(50, 4))
        file["next_observations"] = np.zeros((50, 4))
        file["actions"] = 3 * np.random.default_rng(0).normal(size=(50, 2))
        file["rewards"] = np.zeros(50)
        file["terminals"] = np.zeros(50, bool)
        file["timeouts"] = np.zeros(50, bool)
    assert main(["data", "check", str(tmp_path / "bad.hdf5"), "--env", "balrl/PointMaze-v0"]) == 1
    shown = capsys.readouterr().out
    for expected in ("unsorted", "out of the task's bounds", "all rewards are zero"):
        assert expected in shown
