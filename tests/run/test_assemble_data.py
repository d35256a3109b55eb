"""Logged experience of runs: read once, in the units that the critics speak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import balrl
from balrl.data.prepare import RewardTransform
from balrl.run.assemble import assemble
from balrl.run.assemble_data import reward_units
from balrl.run.warm_start import Source, read_source
from balrl.watch.display import Display
from tests.run.small import SMALL, Listening, maze_config


def test_runs_over_the_same_data_hold_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    inner = balrl.run.assemble_data.load_dataset
    monkeypatch.setattr(
        "balrl.run.assemble_data.load_dataset", lambda name, *a, **k: read.append(name) or inner(name, *a, **k)
    )
    shared: dict[object, object] = {}
    one, other, third = (
        assemble(config, Display(), shared=shared)
        for config in (maze_config(), maze_config(seed="1"), maze_config(**{"data.reward_bias": "-1"}))
    )
    assert len(read) == 2
    assert one.offline is other.offline
    assert third.offline is not one.offline
    assert one.offline is not None
    assert third.offline is not None
    rows = torch.arange(50)
    torch.testing.assert_close(third.offline.gather(rows).rewards, one.offline.gather(rows).rewards - 1)


def test_the_best_episodes_and_clipped_actions() -> None:
    whole = assemble(maze_config(), Display()).offline
    best = assemble(maze_config(**{"data.top_fraction": "0.1", "data.action_limit": "0.5"}), Display()).offline
    assert whole is not None
    assert best is not None
    assert 0 < len(best) < 0.5 * len(whole)
    assert best.gather(torch.arange(len(best))).actions.abs().max() == np.float32(0.5)


def test_units_are_those_of_the_critics_that_the_run_goes_on_with(whole_run: Path) -> None:
    source = read_source(str(whole_run))
    assert source.rewards is not None
    odd = Source(source.label, source.config, source.tensors, source.moments, RewardTransform(3.0, -2.0))
    display = Listening()
    from_run = balrl.load_config("iql/point-maze", settings={**SMALL, "init.checkpoint": str(whole_run)})
    assert reward_units(from_run, None, odd, None, display) == RewardTransform(3.0, -2.0)
    assert "rewards: × 3 + -2, the units of" in display.heard
    policy_only = balrl.load_config(
        "iql/point-maze", settings={**SMALL, "init.checkpoint": str(whole_run), "init.parts": "policy"}
    )
    assert reward_units(policy_only, None, odd, None, display) == RewardTransform(1.0, 0.0)
    stored = {"rewards": {"scale": 5.0, "bias": 1.0}}
    assert reward_units(from_run, None, odd, stored, display) == RewardTransform(5.0, 1.0)
