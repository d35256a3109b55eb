"""Steps of answers, and by how much each of them changed the chance of success: advantages from rollouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from balrl.errors import UserError, shorten

Sample = Callable[[Sequence[str], int], Sequence[Sequence[str]]]
"""``sample(prefixes, n)``: n continuations of each of P prefixes, ``[P][n]``; `CausalSampler` is one."""
Verify = Callable[[str, str], bool]
"""``verify(prompt, answer)``: whether a whole answer is right."""


@dataclass(frozen=True)
class SteppedAnswer:
    """An answer in T steps.

    Attributes:
        prompt: that it answers.
        steps: texts ``[T]``; joined they are the answer.
        values: ``[T + 1]`` float64: the estimated probability of success after the first 0, 1, … T steps; the last one
            is the verifier's word, 0 or 1.
    """

    prompt: str
    steps: tuple[str, ...]
    values: Tensor

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.steps) + 1,) or not self.steps:
            raise UserError(
                f"an answer of {len(self.steps)} steps with values of shape {tuple(self.values.shape)}, expected at "
                "least 1 step and one value more than steps"
            )

    @property
    def advantages(self) -> Tensor:
        """``A_t = V(x, y_{1:t}) − V(x, y_{1:t−1})`` of every step ``[T]``."""
        return self.values.diff()

    @property
    def correct(self) -> bool:
        """Whether the verifier took the whole answer."""
        return bool(self.values[-1] > 0.5)

    def prefix(self, steps: int) -> str:
        """Return the prompt with the first steps."""
        return self.prompt + "".join(self.steps[:steps])


def split_lines(answer: str) -> list[str]:
    """Return an answer's lines, each with the mark that ends it; an empty answer is one empty step."""
    return answer.splitlines(keepends=True) or [""]


def step_advantages(
    prompts: Sequence[str],
    answers: Sequence[str],
    sample: Sample,
    verify: Verify,
    rollouts: int = 8,
    split: Callable[[str], Sequence[str]] = split_lines,
) -> list[SteppedAnswer]:
    """Estimate what every step of answers did to the probability of success.

    ``V(x, y_{1:t}) = E[verify(x, y_{1:t} ŷ)]`` over continuations ŷ of whoever samples, here the mean of `rollouts` of
    them; a step's advantage is ``Q(x, y_{1:t−1}; y_t) − Q(x, y_{1:t−2}; y_{t−1}) = V(x, y_{1:t}) − V(x, y_{1:t−1})``
    (Setlur et al., arXiv 2406.14532). An advantage's standard error is at most ``√(1 / (2 · rollouts))``.

    `sample` is called once, with every prefix that occurs: prefixes that answers share are estimated once and have the
    same value everywhere. The result is as repeatable as `sample` is.

    Args:
        prompts: ``[N]``.
        answers: of them ``[N]``.
        sample: continuations of prompts with the steps so far.
        verify: says of a prompt and a whole answer whether it is right.
        rollouts: continuations per prefix.
        split: an answer into its steps; joined they must be the answer.

    Raises:
        UserError: when lengths differ, `split` loses something, or `sample` returns another number of continuations.
    """
    if len(prompts) != len(answers):
        raise UserError(f"{len(prompts)} prompts with {len(answers)} answers, expected an answer for each prompt")
    if rollouts < 1:
        raise UserError(f"rollouts={rollouts}, expected at least 1 per step")
    stepped = [tuple(split(answer)) for answer in answers]
    for answer, steps in zip(answers, stepped, strict=True):
        if not steps or "".join(steps) != answer:
            raise UserError(
                f"split makes {shorten(steps)} of {shorten(answer)}, expected steps that join to the answer"
            )
    begun = {
        (prompt, "".join(steps[:count])): 0.0
        for prompt, steps in zip(prompts, stepped, strict=True)
        for count in range(len(steps))
    }
    if begun:
        said = sample([prompt + part for prompt, part in begun], rollouts)
        if [len(rows) for rows in said] != [rollouts] * len(begun):
            raise UserError(
                f"sample gave continuations of {len(said)} prefixes, {sorted({len(rows) for rows in said})} of each; "
                f"expected {rollouts} of each of {len(begun)}"
            )
        for (prompt, part), rows in zip(begun, said, strict=True):
            begun[prompt, part] = sum(verify(prompt, part + row) for row in rows) / rollouts
    found = []
    for prompt, answer, steps in zip(prompts, answers, stepped, strict=True):
        values = [begun[prompt, "".join(steps[:count])] for count in range(len(steps))]
        values.append(float(verify(prompt, answer)))
        found.append(SteppedAnswer(prompt, steps, torch.tensor(values, dtype=torch.float64)))
    return found
