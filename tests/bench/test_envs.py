"""Steps per second of environments."""

from __future__ import annotations

import pytest

from balrl.bench.envs import bench_envs
from balrl.cli.main import main


def test_lines_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(bench_envs(["balrl/Pendulum-v1", "balrl/PointMaze-v0"], [3, 5], seconds=0.05))
    assert [(line.engine, line.num_envs) for line in lines] == [
        ("balrl", 3),
        ("balrl", 5),
        ("Gymnasium, sync", 8),
        ("balrl", 3),
        ("balrl", 5),
    ]
    assert all(line.random > 10 and line.policy > 10 for line in lines)
    assert main(["bench", "envs", "balrl/Pendulum-v1", "--num-envs", "4", "--seconds", "0.05"]) == 0
    out = capsys.readouterr().out
    assert "balrl/Pendulum-v1" in out
    assert "Gymnasium, sync" in out
    assert main(["bench", "envs", "Pendulam-v1"]) == 2
    assert "did you mean 'Pendulum-v1'" in capsys.readouterr().err
    assert main(["bench", "envs", "balrl/Pendulam-v1"]) == 2
    assert "balrl/Pendulum-v1" in capsys.readouterr().err
