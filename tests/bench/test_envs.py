"""Steps per second of environments."""

from __future__ import annotations

from balrl.bench.envs import bench_envs


def test_lines() -> None:
    lines = list(bench_envs(["balrl/Pendulum-v1", "balrl/PointMaze-v0"], [3, 5], seconds=0.05))
    assert [(line.engine, line.num_envs) for line in lines] == [
        ("balrl", 3),
        ("balrl", 5),
        ("Gymnasium, sync", 8),
        ("balrl", 3),
        ("balrl", 5),
    ]
    assert all(line.random > 10 and line.policy > 10 for line in lines)
