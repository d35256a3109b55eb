"""Pairs of steps, by hand."""

from __future__ import annotations

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards.language import StepPair, SteppedAnswer, step_pairs


def answer(prompt: str, steps: str, *values: float) -> SteppedAnswer:
    return SteppedAnswer(prompt, tuple(steps.split("|")), torch.tensor(values, dtype=torch.float64))


def test_the_best_step_of_a_prefix_beside_every_worse_one() -> None:
    answers = [
        answer("q:", "a|b", 0.5, 0.75, 1.0),
        answer("q:", "a|c", 0.5, 0.75, 0.0),
        answer("q:", "d|e", 0.5, 0.0, 0.0),
        answer("q:", "f|e", 0.5, 0.5, 0.0),
    ]
    assert step_pairs(answers, margin=0.5) == [
        StepPair("q:", "a", "d", 0.75, (False, False)),
        StepPair("q:a", "b", "c", 1.0, (True, True)),
    ]
    assert StepPair("q:", "a", "f", 0.25, (False, False)) in step_pairs(answers, margin=0.25)


def test_what_comes_after_the_first_wrong_step_gives_no_pair() -> None:
    answers = [answer("q:", "d|e", 0.5, 0.0, 0.0), answer("q:", "d|g", 0.5, 0.0, 0.0)]
    assert step_pairs(answers, margin=0.1) == []


def test_ending_is_part_of_a_step() -> None:
    """The same text, once with the answer's end after it and once without."""
    answers = [answer("q:", "a", 0.5, 1.0), answer("q:", "a|b", 0.5, 0.25, 0.0)]
    assert step_pairs(answers) == [StepPair("q:", "a", "a", 0.75, (True, False))]


def test_pairs_are_of_one_prompt() -> None:
    assert step_pairs([answer("q:", "a", 0.5, 1.0), answer("r:", "b", 0.5, 0.0)]) == []


@pytest.mark.parametrize("margin", [0.0, -0.5, 1.5])
def test_margins_are_differences_of_probabilities(margin: float) -> None:
    with pytest.raises(UserError, match="expected a difference of probabilities"):
        step_pairs([], margin)
