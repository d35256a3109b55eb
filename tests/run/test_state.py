"""Where a run stands survives JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from balrl.run.state import PHASES, RunState


def test_the_axis_counts_updates_of_pre_training_and_environment_steps() -> None:
    state = RunState(updates=500, pretrain_updates=300, env_steps=40)
    assert state.step == 340  # updates of fine-tuning are not on it


def test_json_and_back() -> None:
    state = RunState("warmup", 3, pending_updates=0.25, metrics={"a": 1.0}, seconds={"pretrain": 2.5}, rollbacks=1)
    assert RunState(**json.loads(json.dumps(asdict(state)))) == state


def test_a_run_begins_with_the_first_phase_and_shares_nothing_with_others() -> None:
    one, other = RunState(), RunState()
    one.metrics["a"] = 1
    one.findings.append({})
    assert (other.phase, other.metrics, other.findings) == (PHASES[0], {}, [])
