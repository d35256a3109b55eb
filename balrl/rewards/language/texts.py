"""Preference pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.rewards.rows import read_rows

ANSWERS = {"first": 0.0, "equal": 0.5, "second": 1.0}


@dataclass(frozen=True)
class TextPairs:
    """P prompts with two completions each.

    Attributes:
        prompts: ``[P]``; empty where there is none.
        first, second: completions ``[P]``.
        labels: ``[P]`` float32: the probability that the second is preferred.
    """

    prompts: Sequence[str]
    first: Sequence[str]
    second: Sequence[str]
    labels: Tensor

    def __post_init__(self) -> None:
        sizes = [len(self.prompts), len(self.first), len(self.second), len(self.labels)]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise UserError(f"pairs of texts: {sizes} prompts, completions and labels, expected as many of each")
        if not bool(((self.labels >= 0) & (self.labels <= 1)).all()):
            raise UserError("pairs of texts: labels must be probabilities, one per pair")

    def __len__(self) -> int:
        return len(self.labels)

    def flipped(self, share: float, seed: int = 0) -> TextPairs:
        """Return the same pairs, each label wrong with a probability: what labellers' mistakes would do."""
        wrong = RandomStream(seed).uniform(len(self), dtype=torch.float64) < share
        return replace(self, labels=torch.where(wrong, 1 - self.labels, self.labels))

    def take(self, rows: Tensor) -> TextPairs:
        """Return the pairs at `rows`."""
        chosen = rows.tolist()
        prompts, first, second = ([of[row] for row in chosen] for of in (self.prompts, self.first, self.second))
        return TextPairs(prompts, first, second, self.labels[rows])


def as_text(value: Any) -> str | None:
    """Return a text or a chat as one string; None for what is neither.

    A chat is a list of ``{"role": …, "content": …}``; its messages become lines ``role: content``. One message alone,
    as completions of chats are, is its content.
    """
    if isinstance(value, str):
        return value if _is_text(value) else None
    if not isinstance(value, list | tuple) or not all(isinstance(m, Mapping) for m in value):
        return None
    messages = [(message.get("role"), message.get("content")) for message in value]
    if not all(isinstance(part, str) for message in messages for part in message):
        return None
    if len(messages) == 1 and messages[0][0] == "assistant":
        return as_text(messages[0][1])
    joined = "\n".join(f"{role}: {content}" for role, content in messages)
    return joined if _is_text(joined) else None


def read_text_pairs(path: str | Path) -> TextPairs:
    """Read JSONL or Parquet (extra `parquet`), a pair a row, each text a string or a chat.

    Either TRL's columns ``chosen`` and ``rejected``, or ``first``, ``second`` and ``preferred`` (first, second, equal,
    or the probability of the second); and ``prompt``. What chats of both sides begin with in common is their prompt, in
    place of that column's. Of chosen and rejected the chosen one stands first in even rows and second in odd ones, so
    that calibration has both.

    Raises:
        UserError: naming the row and the column that is not as expected.
    """
    path = Path(path)
    texts: tuple[list[str], list[str], list[str]] = ([], [], [])
    labels = []
    for index, row in enumerate(read_rows(path, "pairs of texts")):
        where = f"'{path}' row {index}"
        if "chosen" in row and "rejected" in row:
            sides, label = [row["chosen"], row["rejected"]], float(index % 2)
            sides = sides[::-1] if index % 2 else sides
        elif {"first", "second", "preferred"} <= row.keys():
            sides, label = [row["first"], row["second"]], _answer(row["preferred"], where)
        else:
            raise UserError(
                f"{where} has the columns {', '.join(sorted(row)) or 'none'}, expected chosen and rejected, or first, "
                "second and preferred"
            )
        begun, sides = _without_common_start(sides)
        prompt = begun or row.get("prompt", "")
        for found, value, name in zip(texts, (prompt, *sides), _NAMES, strict=True):
            text = as_text(value)
            if text is None:
                raise UserError(f"{where}: {name} is {type(value).__name__}, expected a text or a list of messages")
            found.append(text)
        labels.append(label)
    return TextPairs(*texts, labels=torch.tensor(labels))


_NAMES = ("the prompt", "one completion", "one completion")


def _answer(value: Any, where: str) -> float:
    if isinstance(value, str) and value in ANSWERS:
        return ANSWERS[value]
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    raise UserError(f"{where}: 'preferred' is {value!r}, expected {', '.join(ANSWERS)} or a number from 0 to 1")


def _is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8, as half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_common_start(sides: list[Any]) -> tuple[Any, list[Any]]:
    """Return what two chats begin with, and the two without it; texts as they are."""
    if not all(isinstance(side, list | tuple) for side in sides):
        return "", sides
    same = 0
    while same < min(map(len, sides)) - 1 and sides[0][same] == sides[1][same]:
        same += 1
    return list(sides[0][:same]), [list(side[same:]) for side in sides]
