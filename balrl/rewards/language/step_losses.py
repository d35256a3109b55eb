"""Losses on the steps of answers: likelihood weighted by advantages, and preference of one step over another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from balrl.errors import UserError

IGNORED = -100
"""The label of a token that no loss sees, as in transformers."""


def advantage_weights(advantages: Tensor, beta: float, largest: float = 20.0) -> Tensor:
    """Return ``w = min(exp(A / β), largest)``.

    The weights of advantage-weighted regression (Peng et al., arXiv 1910.00177), which arXiv 2406.14532 shows training
    on per-step preferences to be equivalent to: steps that raise the chance of success count more than 1, steps that
    lower it less, and a step is never pushed away from.

    Args:
        advantages: of any shape, in [−1, 1].
        beta: β > 0; the smaller, the greedier.
        largest: a weight.
    """
    if beta <= 0 or largest <= 0:
        raise UserError(f"beta={beta:g} and largest={largest:g}, expected numbers above 0")
    return (advantages / beta).exp().clamp(max=largest)


def token_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``log p(token_{i+1} | tokens_{≤ i})``, 0 where the token is not to be seen.

    Args:
        logits: of a causal model ``[B, L, vocabulary]``.
        labels: its inputs ``[B, L]``, `IGNORED` where they are prompt or padding.

    Returns:
        ``[B, L − 1]``.
    """
    following = labels[:, 1:]
    seen = following != IGNORED
    found = logits[:, :-1].log_softmax(-1).gather(-1, following.where(seen, 0).unsqueeze(-1)).squeeze(-1)
    return found.where(seen, 0.0)


def weighted_likelihood_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return ``−Σ w_i log p(token_i | …) / Σ 1`` over the tokens that are to be seen.

    With all weights 1 it is the loss of supervised fine-tuning. A weight makes its token's step as large as it says:
    nothing divides by the sum of the weights.

    Args:
        logits: ``[B, L, vocabulary]``.
        labels: ``[B, L]``, `IGNORED` where tokens are prompt or padding.
        weights: of the tokens ``[B, L]``, at the same places as the labels.
    """
    count = (labels[:, 1:] != IGNORED).sum().clamp(min=1)
    return -(weights[:, 1:] * token_log_probs(logits, labels)).sum() / count


def step_preference_loss(
    better: Tensor, worse: Tensor, reference_better: Tensor, reference_worse: Tensor, beta: float = 0.1
) -> Tensor:
    """Return the mean of ``−log σ(β [(log π(y⁺|x) − log π_ref(y⁺|x)) − (log π(y⁻|x) − log π_ref(y⁻|x))])``.

    Direct preference optimisation (Rafailov et al., arXiv 2305.18290) of steps, x being prompt and steps before, as
    arXiv 2406.14532 has it.

    Args:
        better, worse: sums of the steps' log-probabilities under the model ``[P]``.
        reference_better, reference_worse: under the reference ``[P]``.
        beta: β > 0: how dear it is to leave the reference.
    """
    if beta <= 0:
        raise UserError(f"beta={beta:g}, expected a number above 0")
    apart = (better - reference_better) - (worse - reference_worse)
    return -F.logsigmoid(beta * apart).mean()


def pad_rows(rows: list[list[int]] | list[list[float]], value: float, dtype: torch.dtype) -> Tensor:
    """Return rows of different lengths ``[B, longest]``, padded on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=dtype)
