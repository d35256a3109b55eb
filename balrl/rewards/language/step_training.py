"""Training a causal language model on steps of answers, by weighted likelihood or by pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.rewards.language.step_losses import (
    IGNORED,
    pad_rows,
    step_preference_loss,
    token_log_probs,
    weighted_likelihood_loss,
)
from balrl.rewards.language.step_pairs import StepPair

OnUpdate = Callable[[int, float], None]
"""Called after each update with the number of updates so far and the loss."""


class StepTokens(NamedTuple):
    """B texts as a causal model is trained on them, each ``[B, L]``, padded on the right.

    Attributes:
        input_ids, attention_mask: the model's.
        labels: `IGNORED` where tokens are prompt or padding.
        weights: of the tokens, that of the step in which a token ends.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor

    def take(self, rows: Tensor, device: torch.device | str) -> StepTokens:
        """Return the texts at `rows`, without columns that are padding for all of them."""
        width = int(self.attention_mask[rows].sum(1).max())
        return StepTokens(*(column[rows, :width].to(device) for column in self))


def tokenize_steps(
    tokenizer: Any,
    prefixes: Sequence[str],
    steps: Sequence[Sequence[str]],
    weights: Sequence[Sequence[float]],
    ends: Sequence[bool] | None = None,
) -> StepTokens:
    """Return tokens of prefixes with the steps after them, each with the weight of its step.

    A text is tokenized as a whole, as the model knows texts; a token that reaches over the border of two steps belongs
    to the later one. A text that ends gets the token for the end, which belongs to its last step.

    Args:
        tokenizer: a fast one, because a slow one does not say where tokens stand.
        prefixes: not trained on ``[B]``.
        steps: texts ``[B][T]``.
        weights: a number for each step ``[B][T]``.
        ends: which texts end with their last step ``[B]``; default: all.

    Raises:
        UserError: when there are no texts, weights lack or are too many, or the tokenizer is not a fast one.
    """
    ends = [True] * len(prefixes) if ends is None else ends
    sizes = {len(prefixes), len(steps), len(weights), len(ends)}
    if len(sizes) > 1 or not len(prefixes) or any(len(s) != len(w) for s, w in zip(steps, weights, strict=True)):
        raise UserError(
            f"{len(prefixes)} prefixes, {len(steps)} answers, weights for {len(weights)}: expected some, as many of "
            "each, and a weight for every step"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("steps need a fast tokenizer, which says where tokens stand; load it with use_fast=True")
    all_ids: list[list[int]] = []
    all_labels: list[list[int]] = []
    all_weights: list[list[float]] = []
    for prefix, parts, worth, whole in zip(prefixes, steps, weights, ends, strict=True):
        found = tokenizer(prefix + "".join(parts), return_offsets_mapping=True)
        ids, labels, of_tokens = list(found["input_ids"]), [], []
        borders = [len(prefix)]
        for part in parts:
            borders.append(borders[-1] + len(part))
        for token, (start, end) in zip(ids, found["offset_mapping"], strict=True):
            step = next((i for i in reversed(range(len(parts))) if start < end and end > borders[i]), None)
            labels.append(IGNORED if step is None else token)
            of_tokens.append(0.0 if step is None else worth[step])
        if whole:
            ids, labels = [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
            of_tokens.append(worth[-1])
        all_ids.append(ids)
        all_labels.append(labels)
        all_weights.append(of_tokens)
    return StepTokens(
        pad_rows(all_ids, 0, torch.int64),
        pad_rows([[1] * len(row) for row in all_ids], 0, torch.int64),
        pad_rows(all_labels, IGNORED, torch.int64),
        pad_rows(all_weights, 0.0, torch.float32),
    )


def fit_weighted(
    model: Any,
    tokens: StepTokens,
    updates: int,
    learning_rate: float,
    batch_size: int = 64,
    seed: int = 0,
    on_update: OnUpdate | None = None,
) -> None:
    """Train a causal model by weighted likelihood, see `weighted_likelihood_loss`: AdamW, gradients of norm ≤ 1.

    With weights 1 this is supervised fine-tuning; on right answers of the model itself, rejection fine-tuning.

    Args:
        model: trained in place.
        tokens: of `tokenize_steps`.
        updates: batches.
        learning_rate: AdamW's, constant.
        batch_size: texts per update.
        seed: of their order.
        on_update: see `OnUpdate`.

    Raises:
        UserError: for settings that train nothing.
    """
    _check(updates, batch_size, learning_rate)
    texts = len(tokens.input_ids)

    def loss(rows: Tensor) -> Tensor:
        batch = tokens.take(rows, model.device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return weighted_likelihood_loss(logits, batch.labels, batch.weights)

    _descend(model, loss, texts, updates, learning_rate, batch_size, seed, on_update)


def fit_step_pairs(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[StepPair],
    updates: int,
    learning_rate: float,
    beta: float = 0.1,
    likelihood: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
    on_update: OnUpdate | None = None,
) -> None:
    """Train a causal model on pairs of steps, see `step_preference_loss`; what it is at first is the reference.

    Args:
        model: trained in place.
        tokenizer: of the model, a fast one.
        pairs: of `step_pairs`.
        updates: batches.
        learning_rate: AdamW's, constant.
        beta: β.
        likelihood: weight of the better steps' own likelihood, a mean over tokens, beside the preference: it keeps both
            steps from becoming unlikely together (arXiv 2404.19733).
        batch_size: pairs per update.
        seed: of their order.
        on_update: see `OnUpdate`.

    Raises:
        UserError: without pairs, and for settings that train nothing.
    """
    _check(updates, batch_size, learning_rate)
    if not pairs:
        raise UserError("no pairs of steps to train on; sample more answers per prompt, or lower the margin")
    prefixes, ones = [pair.prefix for pair in pairs], [[1.0]] * len(pairs)
    better = tokenize_steps(tokenizer, prefixes, [[p.better] for p in pairs], ones, [p.ends[0] for p in pairs])
    worse = tokenize_steps(tokenizer, prefixes, [[p.worse] for p in pairs], ones, [p.ends[1] for p in pairs])

    def log_probs(of: StepTokens, rows: Tensor) -> Tensor:
        batch = of.take(rows, model.device)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return token_log_probs(logits, batch.labels)

    training = model.training
    model.eval()
    with torch.no_grad():
        rows = torch.arange(len(pairs)).split(batch_size)
        reference = [torch.cat([log_probs(of, r).sum(1).cpu() for r in rows]) for of in (better, worse)]
    model.train(training)

    def loss(rows: Tensor) -> Tensor:
        of_better = log_probs(better, rows)
        before = [of[rows].to(model.device) for of in reference]
        found = step_preference_loss(of_better.sum(1), log_probs(worse, rows).sum(1), before[0], before[1], beta)
        count = (better.labels[rows][:, 1:] != IGNORED).sum()
        return found - likelihood * of_better.sum() / count

    _descend(model, loss, len(pairs), updates, learning_rate, batch_size, seed, on_update)


def _check(updates: int, batch_size: int, learning_rate: float) -> None:
    if updates < 1 or batch_size < 1 or learning_rate <= 0:
        raise UserError(
            f"training with updates={updates}, batch_size={batch_size}, learning_rate={learning_rate:g}, expected at "
            "least 1, at least 1 and above 0"
        )


def _descend(
    model: Any,
    loss: Callable[[Tensor], Tensor],
    count: int,
    updates: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    on_update: OnUpdate | None,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    training = model.training
    model.train()
    batches = _batches(count, batch_size, seed)
    for update in range(1, updates + 1):
        value = loss(next(batches))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if on_update is not None:
            on_update(update, float(value.detach()))
    model.train(training)


def _batches(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Return batches of rows, one random order of all after another, without end."""
    stream = RandomStream(seed)
    while True:
        yield from stream.uniform(count, dtype=torch.float64).argsort().split(size)
