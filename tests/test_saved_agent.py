"""Agents are saved and read back as they were; what is no such agent is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import balrl
from balrl.agents import SAC, SACConfig
from balrl.checkpoint import load_state, save_checkpoint
from balrl.errors import UserError
from tests.conftest import random_batch
from tests.test_agent import SPACES, Tiny


def test_an_agent_without_a_run_is_saved_and_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    batch = random_batch(32)
    agent = Tiny(*SPACES)
    agent.set_phase("offline", 9)
    agent.update(batch)
    assert agent.save(tmp_path / "kept") == tmp_path / "kept"
    again = Tiny.load(str(tmp_path / "kept"))
    assert (again.phase, again.phase_updates, again.phase_length) == ("offline", 1, 9)
    for one in (agent, again):
        one.update(batch)
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in agent.state_dict().items())
    assert all(torch.equal(x, again.optimizer_state()[name]) for name, x in agent.optimizer_state().items())
    agent.save(str(tmp_path / "kept"))  # the newer in the place of the older
    assert Tiny.load(tmp_path / "kept").phase_updates == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="it exists and is no saved agent; choose another folder"):
        agent.save(tmp_path / "other")


def test_another_agent_is_not_loaded(tmp_path: Path) -> None:
    SAC(*SPACES, SACConfig(hidden=(4,))).save(tmp_path / "sac")
    with pytest.raises(UserError, match=r"holds an agent 'sac', expected 'tiny'; balrl.load_agent reads any"):
        Tiny.load(tmp_path / "sac")
    assert isinstance(balrl.load_agent(tmp_path / "sac"), SAC)
    with pytest.raises(UserError, match="does not exist; expected a run or checkpoint"):
        Tiny.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("group", "change", "message"),
    [
        ("agent", lambda t: t.pop("clock"), "lacks tensor 'clock'"),
        ("agent", lambda t: t.update(more=torch.ones(1)), "has the unknown tensor 'more'"),
        (
            "agent",
            lambda t: t.update({"normalizer.mean": torch.ones(5)}),
            r"'normalizer.mean' has shape \(5,\), expected",
        ),
        ("optimizer", lambda t: t.update({"x:exp_avg": torch.ones(1)}), "moment 'x:exp_avg' has shape"),
    ],
)
def test_tensors_of_another_agent_are_named(tmp_path: Path, group: str, change: Any, message: str) -> None:
    agent = Tiny(*SPACES)
    tensors = {"agent": dict(agent.state_dict()), "optimizer": dict(agent.optimizer_state())}
    agent.save(tmp_path / "a")
    state = load_state(tmp_path / "a")
    change(tensors[group])
    save_checkpoint(tmp_path / "a", tensors, {k: v for k, v in state.items() if k not in ("format", "files")})
    with pytest.raises(UserError, match=message):
        Tiny.load(tmp_path / "a")
