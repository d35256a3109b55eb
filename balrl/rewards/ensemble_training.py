"""Training a reward ensemble on preferences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from balrl.config import FitConfig
from balrl.conservative_objectives import check_members
from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.rewards.calibration import accuracy, reliability
from balrl.rewards.ensemble import RewardEnsemble
from balrl.rewards.preferences import Preferences


def returns_of(ensemble: RewardEnsemble, inputs: Tensor) -> Tensor:
    """Return undiscounted sums of raw scores over segments: ``[P, 2, H, input_dim]`` gives ``[k, P, 2]``."""
    return ensemble.raw(inputs).sum(-1)


def preference_loss(returns: Tensor, labels: Tensor, l2: float = 0.0) -> Tensor:
    """Return members' Bradley–Terry losses ``[k]`` for segment scores ``[k, P, 2]`` and labels ``[P]`` or ``[k, P]``.

    ``mean_P [−y log σ(R_2 − R_1) − (1 − y) log σ(R_1 − R_2) + l2 · ½ (R_1² + R_2²)]``: Bradley & Terry (1952), with the
    regularisation of arXiv 2310.02743.
    """
    first, second = returns.unbind(-1)
    likelihood = F.binary_cross_entropy_with_logits(
        second - first, labels.expand_as(first).to(first.dtype), reduction="none"
    )
    return (likelihood + l2 * 0.5 * (first.square() + second.square())).mean(-1)


def fit_ensemble(
    ensemble: RewardEnsemble,
    preferences: Preferences,
    config: FitConfig | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train all members at once, each on its own order of the pairs, and normalise their scores over the pairs' steps.

    Member i's data order depends on (seed, its index) alone: trained by itself it comes out the same.

    Args:
        ensemble: trained in place; the inputs' normalisation is fitted to the pairs.
        preferences: the pairs.
        config: how; the defaults if None.
        on_epoch: called with the losses of each epoch, means over members.
        seed: of the split (the same for all members) and of the order of the data (each member's own).

    Returns:
        The `quality` that was reached on the held-out pairs (on all, where none are held out), ``epochs`` and
        ``held_out_pairs``.

    Raises:
        UserError: when there are too few pairs, some have no label, or a member's loss is no longer a number.
    """
    config = config or FitConfig()
    preferences.check_labelled()
    device = ensemble.mean.device
    inputs, labels = preferences.inputs.to(device), preferences.labels.to(device)
    if inputs.shape[-1] != ensemble.inputs.mean.shape[0]:
        raise UserError(
            f"preferences have {inputs.shape[-1]} inputs a step, expected {ensemble.inputs.mean.shape[0]} "
            "as the reward ensemble takes"
        )
    order = RandomStream(seed).uniform(len(labels), dtype=torch.float64).argsort().to(device)
    count = round(config.held_out * len(labels))
    held_out, training = (order[:count] if count else order), order[count:]
    if not len(training):
        raise UserError(f"{len(labels)} pairs leave none to train on with held_out={config.held_out:g}; give more")
    flat = inputs.flatten(0, 2)
    ensemble.inputs.fit(flat.mean(0), flat.std(0, correction=0))
    orders = [
        RandomStream((seed << 20) + 1 + int(ensemble.settings["first"]) + i).to(device) for i in range(ensemble.members)
    ]
    pools = training.expand(ensemble.members, -1)
    if config.bootstrap:
        pools = torch.stack([training[stream.integers(len(training), len(training))] for stream in orders])
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=config.learning_rate)
    best, kept = torch.full((ensemble.members,), torch.inf, device=device), _copy(ensemble)
    stale = torch.zeros(ensemble.members, dtype=torch.int64, device=device)
    epoch = 0
    while epoch < config.epochs and (not count or bool((stale < config.patience).any())):
        shuffled = torch.stack(
            [
                pool[stream.uniform(len(pool), dtype=torch.float64).argsort()]
                for pool, stream in zip(pools, orders, strict=True)
            ]
        )
        for rows in shuffled.split(config.batch_size, dim=1):
            loss = preference_loss(_own_returns(ensemble, inputs, rows), labels[rows], config.l2)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        epoch += 1
        with torch.no_grad():
            found = preference_loss(returns_of(ensemble, inputs[held_out]), labels[held_out])
        check_members(found.unsqueeze(-1))
        if ensemble.settings["shared_trunk"]:  # its members stop together
            found = found.mean().expand_as(found)
        better = (found < best) & (stale < config.patience) if count else torch.ones_like(best, dtype=torch.bool)
        best, stale = torch.where(better, found, best), torch.where(better, 0, stale + 1)
        _keep(kept, ensemble, better)
        if on_epoch is not None:
            on_epoch({"epoch": epoch, "train_loss": float(loss.detach().mean()), "held_out_loss": float(found.mean())})
    ensemble.load_state_dict(kept)
    ensemble.normalize(flat)
    return quality(ensemble, inputs[held_out], labels[held_out]) | {"epochs": epoch, "held_out_pairs": count}


def predicted_preferences(ensemble: RewardEnsemble, inputs: Tensor) -> Tensor:
    """Return each member's probability that the second segment is preferred, ``[k, P]``."""
    return _preferred(returns_of(ensemble, inputs))


@torch.no_grad()
def quality(ensemble: RewardEnsemble, inputs: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return how well an ensemble predicts pairs ``[P, 2, H, input_dim]`` with labels ``[P]``, as plain JSON types.

    ``accuracy`` and ``loss`` (without regularisation) per member; ``ensemble_accuracy``, ``calibration_error`` and the
    ``reliability`` curve of the members' mean probability.
    """
    return quality_of(returns_of(ensemble, inputs), labels)


def quality_of(returns: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return `quality` of members whose scores of the pairs' segments are ``[k, P, 2]``."""
    predicted = _preferred(returns)
    curve = reliability(predicted.mean(0).cpu(), labels.cpu())
    return {
        "accuracy": accuracy(predicted, labels).tolist(),
        "loss": preference_loss(returns, labels).tolist(),
        "ensemble_accuracy": float(accuracy(predicted.mean(0), labels)),
        "calibration_error": curve.error,
        "reliability": [x.tolist() for x in curve[:3]],
    }


def _preferred(returns: Tensor) -> Tensor:
    """Return the probability that the second of two segments is preferred: scores ``[…, 2]`` give ``[…]``."""
    first, second = returns.unbind(-1)
    return torch.sigmoid(second - first)


def _own_returns(ensemble: RewardEnsemble, inputs: Tensor, rows: Tensor) -> Tensor:
    """Return segment scores ``[k, B, 2]`` where member i sees the pairs ``rows[i]``, and no others."""
    x = ensemble.inputs(inputs[rows])
    members, pairs, two, steps, width = x.shape
    x = x.reshape(members, -1, width)
    if ensemble.settings["shared_trunk"]:
        features = ensemble.trunk(x.flatten(0, 1)).unflatten(0, (members, -1))
    else:
        features = ensemble.trunk(x)
    return ensemble.head(features).reshape(members, pairs, two, steps).sum(-1)


def _copy(ensemble: RewardEnsemble) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in ensemble.state_dict().items()}


@torch.no_grad()
def _keep(kept: dict[str, Tensor], ensemble: RewardEnsemble, better: Tensor) -> None:
    """Copy the rows of the members that got better; a shared trunk with any of them."""
    rows = {id(p) for p in ensemble.head.parameters()}
    if not ensemble.settings["shared_trunk"]:
        rows |= {id(p) for p in ensemble.trunk.parameters()}
    for name, parameter in ensemble.named_parameters():
        if id(parameter) in rows:
            kept[name][better] = parameter[better]
        elif bool(better.any()):
            kept[name].copy_(parameter)
    for name, buffer in ensemble.named_buffers():
        kept[name].copy_(buffer)
