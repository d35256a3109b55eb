"""The checks of `balrl bench gpu`, on a device that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balrl.bench import gpu, population, updates
from balrl.cli.main import main
from balrl.execution.updates import EagerUpdates

DEVICE = torch.device("cuda", 1)


def test_all_checks_are_made_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gpu, population, updates):
        monkeypatch.setattr(module, "choose_updates", lambda *_, **__: EagerUpdates())
    monkeypatch.setattr(gpu, "KINDS", {"iql": updates.KINDS["iql"]})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    for module in (population, updates):
        monkeypatch.setattr(module, "ROWS", 2_000)
    found = gpu.run_checks(DEVICE, gpu.SMALL, tmp_path / "results.json", lambda _: None)
    assert not {name: result for name, result in found.items() if "failed" in result}
    same = found["updates of iql are the CPU's"]
    assert same["ok"]
    assert same["captured"] == 0
    assert found["a step of balrl/PointMaze-v0 is the CPU's"]["ok"]
    assert {"written", "captured", "compiled, tf32"} <= set(found["updates of iql per second"])


def test_worlds_are_measured_by_the_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr("balrl.bench.envs.bench_envs", lambda _, counts, *__: asked.append(counts) or [])
    for device in ("cuda", "cpu"):
        assert main(["bench", "envs", "balrl/Pendulum-v1", "--device", device]) == 0
    assert asked == [[1024, 4096, 16384], [16, 256]]
