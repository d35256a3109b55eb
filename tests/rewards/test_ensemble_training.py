"""Training reward ensembles."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from balrl.errors import UserError
from balrl.rewards import FitConfig, Preferences, RewardEnsemble, Teacher, conservative, fit_ensemble
from balrl.rewards.ensemble_training import predicted_preferences, preference_loss, returns_of


def pairs(count: int = 300, steps: int = 4, seed: int = 0, flip: float = 0.0) -> Preferences:
    """Labelled by ``r = o_0 − 2 a_0``."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(count, 2, steps, 3, generator=generator)
    actions = 2 * torch.rand(count, 2, steps, 1, generator=generator) - 1
    rewards = observations[..., 0] - 2 * actions[..., 0]
    labels, _ = Teacher(flip=flip).label(rewards, generator)
    return Preferences(observations, actions, labels)


def made(members: int = 3, **kwargs: object) -> RewardEnsemble:
    return RewardEnsemble(4, members, (32,), **kwargs)  # type: ignore[arg-type]


def test_loss_by_hand() -> None:
    returns = torch.tensor([[[1.0, 3.0], [0.5, 0.0], [2.0, 2.5]]], dtype=torch.float64)
    labels = torch.tensor([1.0, 1.0, 0.5])

    def minus_log_sigmoid(x: float) -> float:
        return math.log(1 + math.exp(-x))

    expected = [
        minus_log_sigmoid(2) + 0.05 * (1 + 9),
        minus_log_sigmoid(-0.5) + 0.05 * 0.25,
        0.5 * minus_log_sigmoid(0.5) + 0.5 * minus_log_sigmoid(-0.5) + 0.05 * (4 + 6.25),
    ]
    found = preference_loss(returns, labels, l2=0.1)
    assert found.tolist() == [pytest.approx(sum(expected) / 3, abs=1e-12)]


def test_a_segment_s_score_is_the_sum_over_its_steps() -> None:
    ensemble, data = made(), pairs(5)
    torch.testing.assert_close(returns_of(ensemble, data.inputs)[1, 2, 0], ensemble.raw(data.inputs[2, 0])[1].sum())


@pytest.mark.parametrize("kwargs", [{}, {"shared_trunk": True}])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_it_learns_what_was_preferred(kwargs: dict[str, bool], bootstrap: bool) -> None:
    ensemble = made(**kwargs)
    epochs: list[dict[str, float]] = []
    config = FitConfig(learning_rate=3e-3, epochs=40, bootstrap=bootstrap)
    found = fit_ensemble(ensemble, pairs(600), config, epochs.append)
    assert min(found["accuracy"]) > 0.85
    assert found["ensemble_accuracy"] > 0.85
    assert found["calibration_error"] < 0.2
    assert len(epochs) == found["epochs"] <= 40
    assert found["held_out_pairs"] == 60
    unseen = pairs(500, seed=1)
    predicted = predicted_preferences(ensemble, unseen.inputs).mean(0)
    assert ((predicted > 0.5) == (unseen.labels > 0.5)).double().mean() > 0.85
    x = unseen.inputs.flatten(0, 2)
    scores, true = conservative(ensemble(x), "wco"), x[:, 0] - 2 * x[:, 3]
    assert torch.corrcoef(torch.stack([scores, true]))[0, 1] > 0.9
    seen = ensemble(pairs(600).inputs.flatten(0, 2))
    torch.testing.assert_close(seen.mean(1), torch.zeros(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_member_trained_alone_is_the_member_trained_among_others(bootstrap: bool) -> None:
    together, alone, data = made(3), made(1, first=2), pairs(80)
    config = FitConfig(epochs=5, batch_size=16, bootstrap=bootstrap, patience=2)
    fit_ensemble(together, data, config)
    fit_ensemble(alone, data, config)
    torch.testing.assert_close(together(data.inputs)[2], alone(data.inputs)[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together(data.inputs)[1], alone(data.inputs)[0], atol=1e-2)


def test_every_member_keeps_its_best_and_stops() -> None:
    """Labels without meaning: held-out loss soon rises, and patience ends it."""
    ensemble, data = made(3), pairs(60, flip=0.5)
    found = fit_ensemble(ensemble, data, FitConfig(learning_rate=1e-2, epochs=200, patience=3, held_out=0.5, l2=0.0))
    assert found["epochs"] < 60
    longer = made(3)
    overfit = fit_ensemble(longer, data, FitConfig(learning_rate=1e-2, epochs=60, patience=60, held_out=0.5, l2=0.0))
    assert max(found["loss"]) < 2
    assert overfit["epochs"] == 60
    for kept, best in zip(overfit["loss"], found["loss"], strict=True):
        assert kept <= best + 1e-6


def test_without_held_out_pairs_all_epochs_are_run_and_training_pairs_judged() -> None:
    found = fit_ensemble(made(2), pairs(100), FitConfig(learning_rate=1e-2, epochs=30, held_out=0.0))
    assert found["epochs"] == 30
    assert min(found["accuracy"]) > 0.9


def test_mistakes_are_explained() -> None:
    with pytest.raises(UserError, match="4 inputs a step, expected 5"):
        fit_ensemble(RewardEnsemble(5, 2, (8,)), pairs(10))
    with pytest.raises(UserError, match="1 pairs leave none to train on"):
        fit_ensemble(made(), pairs(1), FitConfig(held_out=0.6))
    with pytest.raises(UserError, match="member"):
        fit_ensemble(made(), pairs(50), FitConfig(learning_rate=1e30, epochs=3))
    with pytest.raises(ValidationError, match="held_out"):
        FitConfig(held_out=1.0)
