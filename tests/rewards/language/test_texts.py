"""Pairs of texts from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards.language import TextPairs, read_text_pairs
from balrl.rewards.language.texts import as_text


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_chosen_and_rejected_take_turns(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(3)]
    found = read_text_pairs(written(tmp_path / "a.jsonl", *rows))
    assert found.prompts == ["p0", "p1", "p2"]
    assert (found.first, found.second) == (["c0", "r1", "c2"], ["r0", "c1", "r2"])
    assert found.labels.tolist() == [0, 1, 0]


def test_answers_of_labellers(tmp_path: Path) -> None:
    rows = [{"first": "a", "second": "b", "preferred": p} for p in ("first", "equal", "second", 0.25)]
    found = read_text_pairs(written(tmp_path / "a.jsonl", *rows))
    assert found.labels.tolist() == [0, 0.5, 1, 0.25]
    assert found.prompts == [""] * 4


def test_chats_with_and_without_a_prompt(tmp_path: Path) -> None:
    asked = [said("system", "be brief"), said("user", "2 + 2?")]
    rows = [
        {"prompt": asked, "chosen": [said("assistant", "4")], "rejected": [said("assistant", "5")]},
        {"chosen": [*asked, said("assistant", "4")], "rejected": [*asked, said("assistant", "5")]},
    ]
    found = read_text_pairs(written(tmp_path / "a.jsonl", *rows))
    assert found.prompts == ["system: be brief\nuser: 2 + 2?"] * 2
    assert (found.first, found.second) == (["4", "5"], ["5", "4"])
    whole = {"chosen": [*asked, said("assistant", "4")], "rejected": [*asked, said("assistant", "5")]}
    found = read_text_pairs(written(tmp_path / "b.jsonl", {"prompt": "2 + 2?", **whole}))  # as UltraFeedback has it
    assert (found.prompts, found.first) == (["system: be brief\nuser: 2 + 2?"], ["4"])


def test_what_is_no_text() -> None:
    assert as_text("a") == "a"
    assert as_text([said("user", "a"), said("assistant", "b")]) == "user: a\nassistant: b"
    assert as_text([said("user", "a")]) == "user: a"
    assert as_text([]) == ""
    for value in ("\ud800", None, 3, ["a"], [{"role": "user", "content": [{"type": "image"}]}]):
        assert as_text(value) is None


def test_flips_are_the_seeds_and_as_many_as_asked() -> None:
    pairs = TextPairs([""] * 4000, ["a"] * 4000, ["b"] * 4000, torch.zeros(4000))
    flipped = pairs.flipped(0.25, 1)
    assert 0.22 < float(flipped.labels.mean()) < 0.28
    assert torch.equal(flipped.labels, pairs.flipped(0.25, 1).labels)
    assert not torch.equal(flipped.labels, pairs.flipped(0.25, 2).labels)
    assert torch.equal(pairs.flipped(0.0).labels, pairs.labels)
    half = TextPairs([""], ["a"], ["b"], torch.tensor([0.5])).flipped(1.0)
    assert half.labels.tolist() == [0.5]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "a"}, "row 0 has the columns chosen, expected chosen and rejected"),
        ({"chosen": "a", "rejected": 3}, "row 0: one completion is int"),
        ({"first": "a", "second": "b", "preferred": "left"}, "'preferred' is 'left'"),
        ({"first": "a", "second": "b", "preferred": 2}, "'preferred' is 2"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "the prompt is int"),
    ],
)
def test_rows_that_are_none(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_text_pairs(written(tmp_path / "a.jsonl", row))


def test_pairs_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="expected as many of each"):
        TextPairs([""], ["a"], ["b", "c"], torch.zeros(1))
    with pytest.raises(UserError, match="must be probabilities"):
        TextPairs([""], ["a"], ["b"], torch.tensor([2.0]))
