"""Which pairs of segments a teacher is asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.data.dataset import Dataset
from balrl.errors import UserError, did_you_mean
from balrl.rewards.ensemble import RewardEnsemble
from balrl.rewards.ensemble_training import predicted_preferences
from balrl.rewards.preferences import Preferences
from balrl.rewards.teacher import Teacher, threshold_scale
from balrl.spaces import SpaceAdapter

ROUNDS = 50
"""Draws after which a teacher that skips everything is given up."""


def _disagreement(probabilities: Tensor) -> Tensor:
    return probabilities.std(0, correction=0)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).add(torch.special.entr(1 - probabilities)).mean(0)


STRATEGIES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "uniform": None,
    "disagreement": _disagreement,
    "entropy": _entropy,
}
"""What is largest in the pairs that are asked about, of members' predicted preferences ``[k, P]`` (B-Pref)."""


class Segments(NamedTuple):
    """Segments of H steps cut from a dataset: ``[…, H, observation_dim]``, ``[…, H, action_dim]``, ``[…, H]``."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor


def _unlabelled(count: int) -> tuple[Tensor, Tensor]:
    return torch.full((count,), torch.nan), torch.ones(count, dtype=torch.bool)


def segment_starts(dataset: Dataset, steps: int) -> Tensor:
    """Return every row from which `steps` rows of one episode follow, itself included.

    Raises:
        UserError: when no episode is long enough.
    """
    starts = np.concatenate([np.arange(s.start, s.stop - steps + 1) for s in dataset.episode_slices])
    if not len(starts):
        raise UserError(
            f"no episode of '{dataset.name}' has {steps} steps, the longest has {dataset.episode_lengths.max()}; "
            "ask for shorter segments"
        )
    return torch.from_numpy(starts)


def cut(dataset: Dataset, spaces: SpaceAdapter, starts: Tensor, steps: int) -> Segments:
    """Return the segments that begin at `starts` of any shape; actions in [-1, 1]."""
    rows = (starts.unsqueeze(-1) + torch.arange(steps)).numpy()
    return Segments(
        torch.from_numpy(dataset.observations[rows]),
        torch.from_numpy(np.asarray(spaces.from_environment(dataset.actions[rows]), np.float32)),
        torch.from_numpy(dataset.rewards[rows]),
    )


def ask(
    dataset: Dataset,
    spaces: SpaceAdapter,
    teacher: Teacher | None,
    pairs: int,
    steps: int,
    seed: int = 0,
    strategy: str = "uniform",
    ensemble: RewardEnsemble | None = None,
    candidates: int = 10,
) -> Preferences:
    """Return what a teacher who knows the data's rewards prefers among pairs of its segments.

    Args:
        dataset: with true rewards.
        spaces: of its task.
        teacher: labels the pairs; those that it skips are replaced. None: they are for a person to label.
        pairs: how many.
        steps: H, of each segment.
        seed: of the pairs and the teacher's faults.
        strategy: one of `STRATEGIES`.
        ensemble: that disagrees or is uncertain; ``uniform`` needs none.
        candidates: pairs drawn for each that is asked about, where the strategy chooses.

    Raises:
        UserError: for an unknown strategy, a missing ensemble, episodes that are too short, or a teacher who skips
            nearly everything.
    """
    if strategy not in STRATEGIES:
        raise UserError(
            f"no strategy '{strategy}'{did_you_mean(strategy, STRATEGIES)}; strategies: {', '.join(STRATEGIES)}"
        )
    score = STRATEGIES[strategy]
    if score is not None and ensemble is None:
        raise UserError(f"the strategy '{strategy}' chooses by a reward ensemble; train one on uniform pairs first")
    if pairs < 1 or steps < 1:
        raise UserError(f"{pairs} pairs of {steps} steps, expected at least 1 of each")
    generator = torch.Generator().manual_seed(seed)
    starts = segment_starts(dataset, steps)
    returns, lengths = torch.from_numpy(dataset.episode_returns), torch.from_numpy(dataset.episode_lengths)
    scale = threshold_scale(returns, lengths, steps)
    found: list[Preferences] = []
    missing = pairs
    for _ in range(ROUNDS):
        drawn = missing if score is None else missing * candidates
        segments = cut(dataset, spaces, starts[torch.randint(len(starts), (drawn, 2), generator=generator)], steps)
        if score is not None and ensemble is not None:
            inputs = torch.cat([segments.observations, segments.actions], -1).to(ensemble.mean.device)
            with torch.no_grad():
                chosen = score(predicted_preferences(ensemble, inputs)).topk(missing).indices.cpu()
            segments = Segments(*(x[chosen] for x in segments))
        labels, kept = teacher.label(segments.rewards, generator, scale) if teacher else _unlabelled(len(segments[0]))
        made = Preferences(segments.observations, segments.actions, labels, dataset.env_id)
        found.append(made.take(kept))
        missing -= len(found[-1])
        if not missing:
            break
    else:
        raise UserError(f"the teacher skipped all but {pairs - missing} of {pairs} pairs; lower its threshold 'skip'")
    notes = {
        "data": dataset.name,
        "strategy": strategy,
        "seed": seed,
        "teacher": teacher.model_dump() if teacher else None,
    }
    return Preferences(
        torch.cat([x.observations for x in found]),
        torch.cat([x.actions for x in found]),
        torch.cat([x.labels for x in found]),
        dataset.env_id,
        notes,
    )
