"""What a run is made of, and how it is put away."""

from __future__ import annotations

import pytest

import balrl
from balrl.run.assemble import assemble
from balrl.watch.display import Display
from tests.run.small import SMALL, maze_config


def test_updates_draw_from_what_there_is() -> None:
    made = assemble(maze_config(), Display())
    assert made.interaction is not None
    assert made.replays == [made.offline, made.interaction.replay]
    offline_only = {**SMALL, "warmup.steps": "0", "finetune.steps": "0"}
    alone = assemble(balrl.load_config("bc/point-maze", settings=offline_only), Display())
    assert alone.replays == [alone.offline]
    assert alone.interaction is None


def test_closing_closes_both_environments_and_the_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = assemble(maze_config(**{"data.disk": str(tmp_path_factory.mktemp("disk"))}), Display())
    closed = []
    for env in (made.env, made.eval_env):
        monkeypatch.setattr(env, "close", lambda env=env: closed.append(env))
    made.close()
    assert closed == [made.env, made.eval_env]
    assert made.prefetcher is not None
    assert not made.prefetcher._thread.is_alive()
