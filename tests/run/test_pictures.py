"""Which pictures a run gets."""

from __future__ import annotations

from pathlib import Path

import pytest

import balrl
from balrl.run import pictures
from tests.run.small import SMALL, maze_config

pytestmark = pytest.mark.pictures
OFFLINE = {"warmup.steps": "0", "finetune.steps": "0"}


def pictures_of(path: Path) -> set[str]:
    return {file.name for file in path.glob("*.png")}


def test_a_family_in_a_maze_that_went_online_gets_all(whole_run: Path) -> None:
    assert pictures_of(whole_run) == {"curves.png", "switch.png", "balance_map.png"}


def test_one_policy_that_stayed_offline_gets_its_curves(tmp_path: Path) -> None:
    config = balrl.load_config("iql/point-maze", settings={**SMALL, **OFFLINE})
    balrl.train(config, tmp_path / "run")
    assert pictures_of(tmp_path / "run") == {"curves.png"}


def test_no_environment_is_built_to_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, inner = [], pictures._draw_balance_map
    built: list[str] = []
    monkeypatch.setattr(pictures, "_draw_balance_map", lambda *given: drawn.append(given) or inner(*given))
    original = balrl.run.assemble.make_env
    monkeypatch.setattr("balrl.run.assemble.make_env", lambda name, *a: built.append(name) or original(name, *a))
    balrl.train(maze_config(**OFFLINE), tmp_path / "run")
    assert len(built) == 2  # to interact, and to evaluate
    [(_, agent, balance, offline, env)] = drawn
    assert balance is agent.balance
    assert len(offline) == 20_000
    assert env.num_envs == 10
