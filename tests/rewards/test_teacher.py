"""Teachers: what each step means, and their order."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from balrl.rewards import Teacher
from balrl.rewards.teacher import threshold_scale


def label(teacher: Teacher, rewards: list[list[list[float]]], scale: float = 1.0) -> tuple[list[float], list[bool]]:
    labels, kept = teacher.label(torch.tensor(rewards), torch.Generator().manual_seed(0), scale)
    return labels.tolist(), kept.tolist()


PAIRS = [[[1.0, 1.0], [0.0, 3.0]], [[2.0, 2.0], [3.0, 0.0]], [[1.0, 1.0], [1.0, 1.5]]]


def test_a_perfect_teacher_prefers_the_larger_sum() -> None:
    assert label(Teacher(), PAIRS) == ([1, 0, 1], [True] * 3)


def test_a_teacher_that_skips_leaves_out_pairs_of_poor_segments() -> None:
    assert label(Teacher(skip=1.0), PAIRS, scale=3.0)[1] == [False, True, False]  # 3 is not more than 3


def test_a_myopic_teacher_looks_at_the_end() -> None:
    """0.1 · 2 + 2 against 0.1 · 3 + 0, and so on; sums would say otherwise for the pair below."""
    assert label(Teacher(discount=0.1), [[[5.0, 0.0], [0.0, 1.0]]])[0] == [1]
    assert label(Teacher(), [[[5.0, 0.0], [0.0, 1.0]]])[0] == [0]


def test_equal_is_said_last_and_of_undiscounted_sums() -> None:
    flipped = Teacher(equal=0.6, flip=1.0, discount=0.5)
    assert label(flipped, PAIRS)[0] == [0, 1, 0.5]
    assert label(flipped, PAIRS, scale=2.0)[0] == [0.5, 0.5, 0.5]


def test_a_stochastic_teacher_errs_as_often_as_it_should() -> None:
    rewards = torch.tensor([[[0.0], [1.0]]]).expand(20_000, -1, -1)
    labels, _ = Teacher(rationality=2.0).label(rewards, torch.Generator().manual_seed(0))
    assert labels.mean().item() == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.01)


def test_labels_are_flipped_at_the_rate_that_is_asked_for() -> None:
    rewards = torch.randn(20_000, 2, 3, generator=torch.Generator().manual_seed(1))
    clean, _ = Teacher().label(rewards, torch.Generator().manual_seed(0))
    noisy, _ = Teacher(flip=0.25).label(rewards, torch.Generator().manual_seed(0))
    assert (clean != noisy).double().mean().item() == pytest.approx(0.25, abs=0.01)
    again, _ = Teacher(flip=0.25).label(rewards, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)


def test_thresholds_scale_with_the_task() -> None:
    assert threshold_scale(torch.tensor([100.0, 300.0]), torch.tensor([500, 300]), 20) == pytest.approx(10)


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"discount": 0.0}, {"rationality": 0.0}, {"skip": -1.0}])
def test_mistakes_are_explained(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Teacher(**wrong)


def test_pairs_are_equal_where_returns_are_negative_too() -> None:
    rewards = torch.tensor([[[-1.0], [-1.1]], [[-1.0], [-2.0]]])
    labels, _ = Teacher(equal=0.5).label(rewards, torch.Generator(), scale=-1.0)
    assert labels.tolist() == [0.5, 0.0]
