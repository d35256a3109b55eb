"""Continuations by a transformer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from balrl.errors import UserError
from balrl.rewards.language import CausalSampler
from tests.rewards.language.small import tiny_causal


def test_as_many_as_asked_and_the_same_for_the_same_seed() -> None:
    model, tokenizer = tiny_causal()
    prefixes = ["1+2\n", "1", "34*5-6\n"]
    said = CausalSampler(model, tokenizer, 6, at_once=4, seed=3)(prefixes, 3)
    assert [len(texts) for texts in said] == [3, 3, 3]
    assert all(len(text) <= 6 for texts in said for text in texts)
    assert said == CausalSampler(model, tokenizer, 6, at_once=4, seed=3)(prefixes, 3)
    assert said != CausalSampler(model, tokenizer, 6, at_once=4, seed=4)(prefixes, 3)


def test_call_after_call_goes_on_and_leaves_the_rest_alone() -> None:
    model, tokenizer = tiny_causal()
    model.train()
    sample = CausalSampler(model, tokenizer, 6)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sample(["1"], 4)
    assert torch.equal(torch.rand(3), expected)
    assert sample(["1"], 4) != first
    assert model.training


def test_what_a_prefix_is_padded_with_is_not_seen() -> None:
    """At temperature 0: the likeliest token, one after another, whatever else is in the batch."""
    model, tokenizer = tiny_causal()
    texts = ["1+2\n", "7", "34*5-6\n"]
    together = CausalSampler(model, tokenizer, 5, temperature=0)(texts, 1)
    for text, [said] in zip(texts, together, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        made: list[int] = []
        while len(made) < 5 and (not made or made[-1] != tokenizer.eos_token_id):
            made.append(int(model(torch.cat([ids, torch.tensor([made], dtype=torch.int64)], 1)).logits[0, -1].argmax()))
        assert said == tokenizer.decode(made, skip_special_tokens=True)


def test_frequencies_are_the_models() -> None:
    model, tokenizer = tiny_causal()
    [said] = CausalSampler(model, tokenizer, 1, at_once=4000)(["1+"], 4000)
    chances = model(tokenizer("1+", return_tensors="pt")["input_ids"]).logits[0, -1].softmax(-1).detach()
    for character in "37\n":
        expected = float(chances[tokenizer.convert_tokens_to_ids(character)])
        assert abs(said.count(character) / 4000 - expected) < 0.03


def test_nothing_asked() -> None:
    model, tokenizer = tiny_causal()
    assert CausalSampler(model, tokenizer)([], 3) == []


@pytest.mark.parametrize("wrong", [{"longest": 0}, {"at_once": 0}, {"temperature": -1.0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected at least 1, 1 and 0"):
        CausalSampler(*tiny_causal(), **wrong)


def test_what_cannot_be_continued() -> None:
    model, tokenizer = tiny_causal()
    with pytest.raises(UserError, match="a prefix of no tokens"):
        CausalSampler(model, tokenizer)([""], 1)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no token for the end"):
        CausalSampler(model, tokenizer)
