"""Arithmetic worked step by step, for scripts/study_steps.py: problems, an expert, a verifier, and which step is right.

A problem is an expression of single digits; each line of an answer is the expression before it with one operation
carried out, wherever precedence allows one. The expert picks one at random.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

CHARACTERS = "0123456789+-*\n"
BINDS = {"+": 1, "-": 1, "*": 2}


def parse(line: str) -> tuple[list[int], list[str]] | None:
    """Return an expression's numbers and signs; None for what is none. A minus in front belongs to the first number."""
    found = re.fullmatch(r"(-?\d{1,6})((?:[+\-*]\d{1,6})*)", line)
    if found is None:
        return None
    rest = re.findall(r"([+\-*])(\d+)", found[2])
    return [int(found[1]), *(int(number) for _, number in rest)], [sign for sign, _ in rest]


def reduced(numbers: Sequence[int], signs: Sequence[str], at: int) -> tuple[list[int], list[str]]:
    """Return the expression with one operation carried out."""
    left, right = numbers[at], numbers[at + 1]
    made = left + right if signs[at] == "+" else left - right if signs[at] == "-" else left * right
    return [*numbers[:at], made, *numbers[at + 2 :]], [*signs[:at], *signs[at + 1 :]]


def allowed(signs: Sequence[str]) -> list[int]:
    """Return the operations that may come next: those that bind more than the one before and no less than the next."""
    bound = [0, *(BINDS[sign] for sign in signs), 0]
    return [i for i in range(len(signs)) if bound[i] < bound[i + 1] >= bound[i + 2]]


def value(line: str) -> int | None:
    """Return what an expression comes to; None for what is none."""
    parsed = parse(line)
    if parsed is None:
        return None
    numbers, signs = parsed
    while signs:
        numbers, signs = reduced(numbers, signs, allowed(signs)[0])
    return numbers[0]


def written(numbers: Sequence[int], signs: Sequence[str]) -> str:
    """Return an expression as text."""
    return str(numbers[0]) + "".join(sign + str(number) for sign, number in zip(signs, numbers[1:], strict=True))


def verify(prompt: str, answer: str) -> bool:
    """Return whether an answer's last line is the number that the problem comes to; how it got there is not seen."""
    return answer.split("\n")[-1] == str(value(prompt.strip()))


def first_wrong(prompt: str, steps: Sequence[str]) -> int:
    """Return the first step that is not the line before it with one operation carried out; their number if none is."""
    before = prompt.strip()
    for index, step in enumerate(steps):
        line = step.rstrip("\n")
        parsed, last = parse(line), parse(before)
        if parsed is None or last is None or len(parsed[1]) != len(last[1]) - 1 or value(line) != value(before):
            return index
        before = line
    return len(steps)


def problems(count: int, protocol: Mapping[str, Any], seed: int) -> list[tuple[str, str]]:
    """Return different problems, each with the expert's answer; numbers on its way are from 0 to `largest`."""
    about, chance = protocol["problems"], random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        numbers = [chance.randint(1, 9) for _ in range(about["numbers"])]
        signs = [chance.choice("+-*") for _ in range(about["numbers"] - 1)]
        prompt, lines = written(numbers, signs) + "\n", []
        while signs and all(0 <= number <= about["largest"] for number in numbers):
            numbers, signs = reduced(numbers, signs, chance.choice(allowed(signs)))
            lines.append(written(numbers, signs))
        if not signs and 0 <= numbers[0] <= about["largest"]:
            found[prompt] = "\n".join(lines)
    return list(found.items())


def tokenizer() -> Any:
    """Return a tokenizer of characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: i for i, character in enumerate(["<pad>", "<eos>", *CHARACTERS])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    characters.decoder = decoders.Fuse()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", eos_token="<eos>")
