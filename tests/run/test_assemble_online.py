"""The online side of a run: what it holds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.errors import UserError
from tests.run.small import (
    PPO,
    Interrupt,
    maze_config,
)


@pytest.mark.parametrize(("retain", "rows"), [("append", 20_060), ("ratio", 60), ("none", 60)])
def test_retention(tmp_path: Path, retain: str, rows: int) -> None:
    settings = {"finetune.retain": retain, "finetune.steps": "41", "checkpoint.every": "30"}
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**settings), tmp_path / "r", Interrupt(72, crash=True))
    path = list_checkpoints(tmp_path / "r")[0]
    stored = load_tensors(path, "replay")["rows"].shape[0]
    assert stored - rows in (0, -10)


def test_a_run_that_could_never_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no update would be made"):
        balrl.train(maze_config(batch_size="100", **{"pretrain.updates": "0"}), tmp_path / "run")
    with pytest.raises(UserError, match=r"replay\.capacity is 5, expected at least 10"):
        balrl.train(maze_config(**{"replay.capacity": "5"}), tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"finetune.utd_ratio": "2"}, "utd_ratio is 2.0, expected 1.0"),
        ({"batch_size": "13"}, "batch_size is 13, a rollout has 4 steps of 3 environments"),
    ],
)
def test_ppo_refuses_what_it_cannot_use(tmp_path: Path, setting: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        balrl.train(balrl.load_config("ppo/classic", settings={**PPO, **setting}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
