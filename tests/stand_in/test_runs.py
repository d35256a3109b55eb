"""Whole runs on a device that is none: they end, they resume, and what they ask the host for is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.run.assemble import assemble
from balrl.run.trainer import Trainer
from balrl.watch.display import Display
from balrl.watch.tracking import Tracker
from tests.run.small import FAMILY, PPO, SMALL, Interrupt, final_state, maze_config
from tests.stand_in.device import WAITS

ON = {"device": "cuda:1"}


def waits() -> int:
    found = sum(WAITS.values())
    WAITS.clear()
    return found


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("famo2o-iql/point-maze", FAMILY),
        ("wsrl/point-maze", {**SMALL, "agent.critic_hidden": "[8, 8]"}),
        ("ppo/classic", PPO),
    ],
)
def test_a_run_that_is_stopped_and_resumed_is_the_whole_one(
    preset: str, settings: dict[str, str], tmp_path: Path
) -> None:
    config = balrl.load_config(preset, settings={**settings, **ON})
    assert balrl.train(config, tmp_path / "whole").finished
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "stopped", Interrupt(40, crash=True))
    assert balrl.resume(tmp_path / "stopped").finished
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "stopped")
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert load_tensors(list_checkpoints(tmp_path / "whole")[0], "agent")


def test_what_a_run_asks_the_host_for(tmp_path: Path) -> None:
    """Nothing in an update or a step of a device environment; a time or two to measure and to log, however much."""
    config = maze_config(**ON, **{"finetune.steps": "1000"})
    trainer = Trainer(config, assemble(config, Display()), Tracker(tmp_path, {}, "off", "balrl"), tmp_path)
    trainer._enter("pretrain")
    trainer._pretrain_step()
    for _ in range(2):
        trainer._next_phase()
    trainer._enter("finetune")
    for _ in range(3):
        trainer.state.metrics |= trainer._finetune_step()
    WAITS.clear()
    interaction = trainer.components.interaction
    assert interaction is not None
    interaction.step(trainer.components.agent.explore)
    assert waits() == 0
    trainer.state.metrics |= trainer._finetune_step()
    assert waits() == 0
    assert len(trainer.state.metrics) > 5
    trainer._log()
    assert waits() <= 2  # ended episodes, and all metrics
    trainer._has_diverged(trainer._measure())
    assert waits() <= 3  # the largest reward, all measurements, whether parameters are finite
