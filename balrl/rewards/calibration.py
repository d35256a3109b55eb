"""How well predicted preferences are right, and how well they know it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Reliability(NamedTuple):
    """Predictions in bins of equal width over [0, 1]; empty bins have NaN.

    Attributes:
        predicted: mean prediction in each bin ``[bins]``.
        observed: mean label in each bin ``[bins]``.
        predictions: how many are in each bin ``[bins]``.
        error: expected calibration error ``Σ_b predictions_b / N · |observed_b − predicted_b|`` (Naeini et al., 2015).
    """

    predicted: Tensor
    observed: Tensor
    predictions: Tensor
    error: float


def reliability(predicted: Tensor, labels: Tensor, bins: int = 10) -> Reliability:
    """Return the reliability curve of predicted probabilities ``[P]`` against labels ``[P]`` in [0, 1]."""
    predicted, labels = predicted.flatten().double(), labels.flatten().double()
    index = (predicted * bins).long().clamp(max=bins - 1)
    count = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, torch.ones_like(predicted))
    mean_predicted = torch.zeros_like(count).index_add_(0, index, predicted) / count
    mean_observed = torch.zeros_like(count).index_add_(0, index, labels) / count
    gaps = (mean_observed - mean_predicted).abs().nan_to_num(0.0)
    return Reliability(mean_predicted, mean_observed, count, float((gaps * count).sum() / count.sum()))


def accuracy(predicted: Tensor, labels: Tensor) -> Tensor:
    """Return the share of decided pairs whose preferred segment was predicted: ``[…, P]`` and ``[P]`` give ``[…]``.

    Pairs labelled ½ are left out; NaN where no pair is left.
    """
    decided = labels != 0.5
    return ((predicted > 0.5) == (labels > 0.5))[..., decided].double().mean(-1)
