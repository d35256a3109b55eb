"""Balancing is judged as Gymnasium judges it, on the original simulator's own numbers in float64."""

from __future__ import annotations

import pytest
import torch

from balrl.envs.mujoco.pendulums import InvertedDoublePendulum, InvertedPendulum
from balrl.envs.mujoco.task import Task
from tests.envs.mujoco.test_task import judged, state_of, walk


@pytest.mark.parametrize(
    ("name", "task", "scale"),
    [
        ("InvertedPendulum-v5", InvertedPendulum(), 0.15),
        ("InvertedDoublePendulum-v5", InvertedDoublePendulum(), 1.2),  # at the rail's end, too
    ],
)
def test_observations_rewards_and_ends_are_gymnasium_s_exactly(name: str, task: Task, scale: float) -> None:
    made = walk(name, scale, steps=120)
    observations, outcome = judged(task, made)
    torch.testing.assert_close(observations, made.observations, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outcome.rewards, made.rewards.double(), rtol=1e-12, atol=1e-12)
    assert torch.equal(outcome.terminated, made.terminated)
    assert 5 < outcome.terminated.sum() < 115
    if name == "InvertedDoublePendulum-v5":
        assert made.after["qvel"].abs().max() > 10
        assert made.after["qfrc_constraint"][:, 0].abs().max() > 10


def test_a_pole_may_lean_as_far_as_the_border() -> None:
    angles = (0.2, 0.2 + 1e-9, -0.2, -0.2 - 1e-9)
    views = {"qpos": torch.tensor([[3.0, angle] for angle in angles], dtype=torch.float64)}
    views |= {"qvel": views["qpos"], "qacc_warmstart": views["qpos"]}
    task = InvertedPendulum()
    outcome = task.outcome(state_of(task, views), views, torch.zeros(4, 1).double(), 0.04)
    assert outcome.terminated.tolist() == [False, True, False, True]
    assert outcome.rewards.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_two_poles_are_paid_by_the_formula_and_their_fall_begins_at_height_one() -> None:
    """For x = 2, v₁ = 3 and v₂ = −4 the penalties are 0.04 + (y − 2)² + 0.009 + 0.08."""
    views = {
        "site_xpos": torch.tensor([[[2.0, 9.0, y]] for y in (1.5, 1.0, 2.0)], dtype=torch.float64),
        "qvel": torch.tensor([[8.0, 3.0, -4.0]], dtype=torch.float64).expand(3, 3),
        "qpos": torch.zeros(3, 3).double(),
        "qacc_warmstart": torch.zeros(3, 3).double(),
        "qfrc_constraint": torch.zeros(3, 3).double(),
    }
    task = InvertedDoublePendulum()
    outcome = task.outcome(state_of(task, views), views, torch.ones(3, 1).double(), 0.05)
    assert outcome.rewards.tolist() == pytest.approx([9.621, -1.129, 9.871], abs=1e-12)
    assert outcome.terminated.tolist() == [False, True, False]
