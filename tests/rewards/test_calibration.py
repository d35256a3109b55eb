"""Accuracy and calibration."""

from __future__ import annotations

import pytest
import torch

from balrl.rewards.calibration import accuracy, reliability


def test_reliability_by_hand() -> None:
    predicted = torch.tensor([0.05, 0.15, 0.12, 0.95, 1.0])
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
    curve = reliability(predicted, labels)
    assert curve.predictions.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert curve.predicted[[0, 1, 9]].tolist() == pytest.approx([0.05, 0.135, 0.975])
    assert curve.observed[[0, 1, 9]].tolist() == pytest.approx([0, 0.5, 1])
    assert curve.observed[2].isnan()
    assert curve.error == pytest.approx((0.05 + 2 * 0.365 + 2 * 0.025) / 5)


def test_predictions_that_know_themselves_have_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(100_000, generator=generator)
    labels = (torch.rand(100_000, generator=generator) < predicted).float()
    assert reliability(predicted, labels).error < 0.01
    assert reliability(predicted.round(), labels).error > 0.2  # too sure of itself


def test_accuracy_leaves_out_the_undecided() -> None:
    predicted = torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.9, 0.9]])
    assert accuracy(predicted, torch.tensor([1.0, 0.0, 0.5])).tolist() == [1, 0]
    assert accuracy(predicted[0], torch.tensor([0.5, 0.5, 0.5])).isnan()


def test_empty_bins_are_no_error_and_one_half_is_no_preference() -> None:
    one = reliability(torch.tensor([0.3, 0.3]), torch.tensor([0.0, 1.0]))
    assert one.error == pytest.approx(0.2)
    assert accuracy(torch.tensor([0.2, 0.5]), torch.tensor([0.0, 0.0])).item() == 1
