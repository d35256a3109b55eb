"""Updates come when they are due."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import balrl
from balrl.run.schedule import UpdateSchedule
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


def test_new_preferences_relabel_everything_that_holds_rewards() -> None:
    """Replays, rollouts, and the step that is held back until its next actions are known."""
    relabelled: list[str] = []
    reward = SimpleNamespace(
        is_due=lambda *_: True, learn=lambda: {"reward/rounds": 1.0}, relabel=lambda held, _: relabelled.append(held)
    )
    run = SimpleNamespace(
        reward=reward,
        replays=["offline", "online"],
        interaction=SimpleNamespace(rollouts="rollouts", next_actions="held back", rewards=None),
        display=SimpleNamespace(working=lambda _: nullcontext()),
    )
    schedule = UpdateSchedule(maze_config(), run)  # type: ignore[arg-type]
    state = SimpleNamespace(env_steps=10, step=10)
    assert schedule.new_preferences(state, 5) == {"reward/rounds": 1.0}  # type: ignore[arg-type]
    assert sorted(relabelled) == ["held back", "offline", "online", "rollouts"]
