"""Tokens of steps, by hand, and that training moves a small transformer where it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from balrl.errors import UserError
from balrl.rewards.language import StepPair, fit_step_pairs, fit_weighted, tokenize_steps
from balrl.rewards.language.step_losses import IGNORED, token_log_probs
from tests.rewards.language.small import tiny_causal


def test_tokens_labels_and_weights_by_hand() -> None:
    _, tokenizer = tiny_causal()
    found = tokenize_steps(tokenizer, ["1+2\n", "5\n"], [["3\n", "4"], ["5"]], [[2.0, 0.5], [3.0]], [True, False])
    one = tokenizer("1+2\n3\n4")["input_ids"]
    end = tokenizer.eos_token_id
    assert found.input_ids.tolist() == [[*one, end], [*tokenizer("5\n5")["input_ids"], 0, 0, 0, 0, 0]]
    assert found.attention_mask.tolist() == [[1] * 8, [1] * 3 + [0] * 5]
    masked = [IGNORED] * 4
    assert found.labels.tolist() == [[*masked, *one[4:], end], [IGNORED, IGNORED, one[0] + 4, IGNORED, *masked]]
    assert found.weights.tolist() == [[0, 0, 0, 0, 2, 2, 0.5, 0.5], [0, 0, 3, 0, 0, 0, 0, 0]]


def test_a_token_over_a_border_belongs_to_the_later_step() -> None:
    """Words are tokens here, with the space before them; ``ab`` reaches from the prefix into the first step."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<eos>": 0, "ab": 1, " c": 2, " d": 3}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+"), "isolated")  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
    found = tokenize_steps(tokenizer, ["a"], [["b ", "c", " d"]], [[1.0, 2.0, 3.0]])
    assert found.input_ids.tolist() == [[1, 2, 3, 0]]
    assert found.weights.tolist() == [[1, 2, 3, 3]]
    assert found.labels.tolist() == [[1, 2, 3, 0]]


def test_an_empty_answer_is_its_end() -> None:
    _, tokenizer = tiny_causal()
    found = tokenize_steps(tokenizer, ["1"], [[""]], [[0.5]])
    assert found.labels.tolist() == [[IGNORED, tokenizer.eos_token_id]]
    assert found.weights.tolist() == [[0, 0.5]]


def test_a_batch_has_no_column_of_padding() -> None:
    _, tokenizer = tiny_causal()
    found = tokenize_steps(tokenizer, ["1", "1"], [["2"], ["2345"]], [[1.0], [1.0]])
    assert found.take(torch.tensor([0]), "cpu").input_ids.shape == (1, 3)
    assert found.take(torch.tensor([1, 0]), "cpu").input_ids.shape == (2, 6)


def log_prob(model: Any, tokenizer: Any, prefix: str, step: str) -> float:
    tokens = tokenize_steps(tokenizer, [prefix], [[step]], [[1.0]], [False])
    with torch.no_grad():
        return float(token_log_probs(model(tokens.input_ids).logits, tokens.labels).sum())


def test_steps_become_as_likely_as_their_weights() -> None:
    """``Σ w log p`` with weights 3 and 1 for two continuations is best at ¾ and ¼."""
    model, tokenizer = tiny_causal()
    tokens = tokenize_steps(tokenizer, ["1+", "1+"], [["2"], ["3"]], [[3.0], [1.0]], [False, False])
    losses: list[float] = []
    fit_weighted(model, tokens, 60, 1e-2, on_update=lambda update, loss: losses.append(loss))
    chances = [torch.tensor(log_prob(model, tokenizer, "1+", step)).exp() for step in "23"]
    torch.testing.assert_close(torch.stack(chances), torch.tensor([0.75, 0.25]), atol=0.05, rtol=0)
    assert len(losses) == 60
    assert losses[-1] < losses[0]
    assert not model.training  # as it came


def test_the_same_seed_trains_the_same() -> None:
    made = []
    for _ in range(2):
        model, tokenizer = tiny_causal()
        tokens = tokenize_steps(tokenizer, ["1+", "2+", "3+"], [["2"], ["3"], ["4"]], [[1.0]] * 3)
        fit_weighted(model, tokens, 3, 1e-2, batch_size=2, seed=5)
        made.append(log_prob(model, tokenizer, "1+", "2"))
    assert made[0] == made[1]


PAIRS = [StepPair("1+2\n", "3\n", "4\n", 0.5, (False, False)), StepPair("2+2\n", "4", "5\n", 1.0, (True, False))]


def test_pairs_move_apart_and_begin_at_ln_2() -> None:
    model, tokenizer = tiny_causal()
    losses: list[float] = []

    def apart() -> float:
        return log_prob(model, tokenizer, "1+2\n", "3\n") - log_prob(model, tokenizer, "1+2\n", "4\n")

    before = apart()
    fit_step_pairs(model, tokenizer, PAIRS, 20, 1e-2, on_update=lambda _, loss: losses.append(loss))
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[-1] < 0.6
    assert apart() > before + 1


def test_the_better_steps_likelihood_is_a_mean_over_tokens() -> None:
    model, tokenizer = tiny_causal()
    losses: list[float] = []
    tokens = tokenize_steps(tokenizer, ["2+2\n"], [["4"]], [[1.0]])
    with torch.no_grad():
        ended = float(token_log_probs(model(tokens.input_ids).logits, tokens.labels).sum())
    expected = 0.693147 - 0.5 * (log_prob(model, tokenizer, "1+2\n", "3\n") + ended) / 4
    fit_step_pairs(model, tokenizer, PAIRS, 1, 1e-3, likelihood=0.5, on_update=lambda _, loss: losses.append(loss))
    assert losses[0] == pytest.approx(expected, abs=1e-5)


def test_what_is_refused() -> None:
    model, tokenizer = tiny_causal()
    with pytest.raises(UserError, match="no pairs of steps to train on"):
        fit_step_pairs(model, tokenizer, [], 1, 1e-3)
    tokens = tokenize_steps(tokenizer, ["1"], [["2"]], [[1.0]])
    for updates, rate, size in ((0, 1e-3, 1), (1, 0.0, 1), (1, 1e-3, 0)):
        with pytest.raises(UserError, match="expected at least 1, at least 1 and above 0"):
            fit_weighted(model, tokens, updates, rate, size)
        with pytest.raises(UserError, match="expected at least 1, at least 1 and above 0"):
            fit_step_pairs(model, tokenizer, PAIRS, updates, rate, batch_size=size)
    for prefixes, steps, weights in (([], [], []), (["a"], [["b"], ["c"]], [[1.0]] * 2), (["a"], [["b"]], [[]])):
        with pytest.raises(UserError, match="a weight for every step"):
            tokenize_steps(tokenizer, prefixes, steps, weights)
    with pytest.raises(UserError, match="need a fast tokenizer"):
        tokenize_steps(object(), ["a"], [["b"]], [[1.0]])
