"""Advantages of steps, on samplers and verifiers whose chances are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards.language import SteppedAnswer, split_lines, step_advantages


class Scripted:
    """Continues a prefix as a table says, in turn, and remembers what it was asked."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table, self.asked = table, list[list[str]]()

    def __call__(self, prefixes: Sequence[str], n: int) -> list[list[str]]:
        self.asked.append(list(prefixes))
        return [[self.table[prefix][i % len(self.table[prefix])] for i in range(n)] for prefix in prefixes]


def ends_in_four(prompt: str, answer: str) -> bool:
    return answer.endswith("4")


def test_values_and_advantages_by_hand() -> None:
    sample = Scripted({"q:": ["4", "5"], "q:a\n": ["4", "4", "4", "5"], "q:b\n": ["5"]})
    right, wrong = step_advantages(["q:", "q:"], ["a\n4", "b\n5"], sample, ends_in_four, rollouts=4)
    assert right.values.tolist() == [0.5, 0.75, 1.0]
    assert right.advantages.tolist() == [0.25, 0.25]
    assert wrong.values.tolist() == [0.5, 0.0, 0.0]
    assert wrong.advantages.tolist() == [-0.5, 0.0]
    assert (right.correct, wrong.correct) == (True, False)
    assert wrong.prefix(1) == "q:b\n"
    assert right.values.dtype == torch.float64


def test_all_prefixes_in_one_call_and_each_once() -> None:
    sample = Scripted({"q:": ["4"], "q:a\n": ["4"]})
    step_advantages(["q:"] * 3, ["a\n4", "a\n5", "4"], sample, ends_in_four, rollouts=2)
    assert sample.asked == [["q:", "q:a\n"]]


def test_the_same_text_after_another_prompt_is_another_prefix() -> None:
    """A verifier sees the prompt, so that ``q`` with ``rs`` is not ``qr`` with ``s``."""
    sample = Scripted({"q": ["4"], "qr\n": ["4"]})
    found = step_advantages(["q", "qr\n"], ["r\n4", "4"], sample, lambda prompt, _: prompt == "q", rollouts=1)
    assert [answer.values.tolist() for answer in found] == [[1.0, 1.0, 1.0], [0.0, 0.0]]


def test_estimates_come_close_to_the_chance() -> None:
    generator = torch.Generator().manual_seed(0)

    def sample(prefixes: Sequence[str], n: int) -> list[list[str]]:
        return [["4" if u < 0.3 else "5" for u in torch.rand(n, generator=generator).tolist()] for _ in prefixes]

    [found] = step_advantages(["q"], ["4"], sample, ends_in_four, rollouts=4000)
    assert abs(float(found.values[0]) - 0.3) < 0.03


def test_lines() -> None:
    assert split_lines("a\n\nb") == ["a\n", "\n", "b"]
    assert split_lines("") == [""]


def test_an_empty_answer_is_one_step() -> None:
    [found] = step_advantages(["q"], [""], Scripted({"q": ["4"]}), ends_in_four, rollouts=1)
    assert (found.steps, found.values.tolist()) == (("",), [1.0, 0.0])


def test_nothing_to_estimate() -> None:
    assert step_advantages([], [], Scripted({}), ends_in_four) == []


def test_what_is_refused() -> None:
    sample = Scripted({"q": ["4"]})
    with pytest.raises(UserError, match="1 prompts with 2 answers"):
        step_advantages(["q"], ["4", "5"], sample, ends_in_four)
    with pytest.raises(UserError, match="rollouts=0, expected at least 1"):
        step_advantages(["q"], ["4"], sample, ends_in_four, rollouts=0)
    with pytest.raises(UserError, match="expected steps that join to the answer"):
        step_advantages(["q"], ["4\n5"], sample, ends_in_four, split=str.splitlines)
    with pytest.raises(UserError, match=r"continuations of 1 prefixes, \[1\] of each; expected 8 of each of 1"):
        step_advantages(["q"], ["4"], lambda prefixes, n: [["4"]], ends_in_four)
    with pytest.raises(UserError, match=r"2 steps with values of shape \(2,\)"):
        SteppedAnswer("q", ("a", "b"), torch.zeros(2))
