"""Losses on steps, against values computed by hand in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.rewards.language import advantage_weights, step_preference_loss, weighted_likelihood_loss
from balrl.rewards.language.step_losses import IGNORED, pad_rows, token_log_probs


def double(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_weights_of_steps_that_help_and_that_hurt() -> None:
    found = advantage_weights(double(0.5, 0.0, -0.5, 1.0), beta=0.25, largest=20.0)
    torch.testing.assert_close(found, double(math.exp(2), 1.0, math.exp(-2), 20.0), rtol=1e-12, atol=0)
    for wrong in ({"beta": 0.0}, {"beta": 1.0, "largest": 0.0}):
        with pytest.raises(UserError, match="expected numbers above 0"):
            advantage_weights(double(0.0), **wrong)


LOGITS = double([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(7)], [5.0, -5.0]], [[2.0, 2.0]] * 4)
"""Of the next token, of two: (½, ½), (¾, ¼), (⅛, ⅞), and one that predicts nothing; then ½ everywhere."""
LABELS = torch.tensor([[IGNORED, IGNORED, 1, 1], [IGNORED, 0, IGNORED, IGNORED]])
"""Tokens 2 and 3 of the first text are its answer; of the second, token 1, with padding after it."""


def test_log_probabilities_stand_one_before_their_token() -> None:
    expected = double([0.0, math.log(1 / 4), math.log(7 / 8)], [math.log(1 / 2), 0.0, 0.0])
    torch.testing.assert_close(token_log_probs(LOGITS, LABELS), expected, rtol=1e-12, atol=1e-15)


def test_the_weighted_likelihood() -> None:
    weights = double([9.0, 9.0, 2.0, 0.5], [9.0, 3.0, 9.0, 9.0])  # the nines are masked
    expected = (2.0 * math.log(4) + 0.5 * math.log(8 / 7) + 3.0 * math.log(2)) / 3
    torch.testing.assert_close(
        weighted_likelihood_loss(LOGITS, LABELS, weights), double(expected)[0], rtol=1e-12, atol=0
    )
    plain = torch.nn.functional.cross_entropy(LOGITS[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten())
    torch.testing.assert_close(
        weighted_likelihood_loss(LOGITS, LABELS, torch.ones_like(weights)), plain, rtol=1e-12, atol=0
    )


def test_its_gradient_is_the_weight_times_the_likelihoods() -> None:
    """``∂/∂z = w (p − onehot) / count`` at the place that predicts the token, 0 at prompts and padding."""
    logits = LOGITS.clone().requires_grad_()
    weights = double([9.0, 9.0, 2.0, 0.5], [9.0, 3.0, 9.0, 9.0])
    weighted_likelihood_loss(logits, LABELS, weights).backward()
    expected = torch.zeros_like(LOGITS)
    expected[0, 1] = double(3 / 4, -3 / 4) * 2.0 / 3
    expected[0, 2] = double(1 / 8, -1 / 8) * 0.5 / 3
    expected[1, 0] = double(-1 / 2, 1 / 2) * 3.0 / 3
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-15)


def test_a_batch_without_answers_costs_nothing() -> None:
    assert float(weighted_likelihood_loss(LOGITS, torch.full_like(LABELS, IGNORED), torch.ones(2, 4))) == 0.0


def test_the_preference_of_steps() -> None:
    better, worse = double(-1.0, -2.0), double(-3.0, -0.5)
    before = double(-2.0, -2.0), double(-2.5, -1.0)
    # β · ((−1 + 2) − (−3 + 2.5)) = 0.5 · 1.5, β · ((−2 + 2) − (−0.5 + 1)) = 0.5 · −0.5
    expected = (math.log1p(math.exp(-0.75)) + math.log1p(math.exp(0.25))) / 2
    found = step_preference_loss(better, worse, *before, beta=0.5)
    torch.testing.assert_close(found, double(expected)[0], rtol=1e-12, atol=0)
    at_first = step_preference_loss(better, worse, better, worse, beta=3.0)
    torch.testing.assert_close(at_first, double(math.log(2))[0], rtol=1e-12, atol=0)
    with pytest.raises(UserError, match="beta=0, expected a number above 0"):
        step_preference_loss(better, worse, *before, beta=0.0)


def test_rows_are_padded_on_the_right() -> None:
    assert pad_rows([[1], [2, 3]], -100, torch.int64).tolist() == [[1, -100], [2, 3]]
