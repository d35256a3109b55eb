"""Pairs of steps from the same prefix, of which one is better by its advantage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from balrl.errors import UserError
from balrl.rewards.language.steps import SteppedAnswer


class StepPair(NamedTuple):
    """Two steps that begin alike.

    Attributes:
        prefix: the prompt with the steps before them.
        better, worse: steps.
        margin: by how much the advantages differ.
        ends: whether the better one ends its answer, and whether the worse one does.
    """

    prefix: str
    better: str
    worse: str
    margin: float
    ends: tuple[bool, bool]


def step_pairs(answers: Sequence[SteppedAnswer], margin: float = 0.5) -> list[StepPair]:
    """Return a pair for every step that is worse than the best one from the same prefix.

    Steps from one prefix have the same value before them, so that their advantages differ as the values after them do
    (arXiv 2406.14532 makes its pairs of a wrong answer's first step of low value and another step from there). Prefixes
    that are hopeless have no step that is better by a margin and so give no pairs: what comes after the first wrong
    step is left out by itself.

    Args:
        answers: several of each prompt.
        margin: the smallest difference of advantages, in (0, 1]. With n rollouts the difference's standard error is up
            to ``√(1 / (2n))``.
    """
    if not 0 < margin <= 1:
        raise UserError(f"margin={margin:g}, expected a difference of probabilities in (0, 1]")
    steps: dict[tuple[str, str], dict[tuple[str, bool], float]] = {}
    for answer in answers:
        last = len(answer.steps) - 1
        for index, (step, value) in enumerate(zip(answer.steps, answer.values[1:].tolist(), strict=True)):
            before = answer.prefix(index)
            steps.setdefault((answer.prompt, before), {})[step, index == last] = value
    found = []
    for (_, prefix), values in steps.items():
        best, ends = max(values, key=values.__getitem__)
        for (step, other_ends), value in values.items():
            apart = values[best, ends] - value
            if apart >= margin:
                found.append(StepPair(prefix, best, step, apart, (ends, other_ends)))
    return found
