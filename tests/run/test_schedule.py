"""Updates come when they are due."""

from __future__ import annotations

from pathlib import Path

import pytest

import balrl
from tests.run.small import (
    maze_config,
)


@pytest.mark.parametrize(("utd", "updates"), [("0.5", 20), ("2", 80), ("0.3", 12)])
def test_update_to_data_ratio_carries_its_remainder(tmp_path: Path, utd: str, updates: int) -> None:
    result = balrl.train(
        maze_config(**{"finetune.utd_ratio": utd, "pretrain.updates": "0", "num_envs": "4"}), tmp_path / "r"
    )
    assert result.summary["updates"] == updates


def test_without_warm_up_updates_wait_for_a_full_batch(tmp_path: Path) -> None:
    settings = {"warmup.steps": "0", "pretrain.updates": "0", "num_envs": "1", "batch_size": "16"}
    result = balrl.train(maze_config(**settings), tmp_path / "r")
    assert result.summary["updates"] == 40 - 15
