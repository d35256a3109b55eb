"""A learned reward that stands in for the environment's."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from balrl.conservative_objectives import OBJECTIVES, check_members, conservative
from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError
from balrl.rewards.ensemble import RewardEnsemble
from balrl.spaces import SpaceAdapter

SURVIVAL = 0.99
"""Share of the steps of logged data that are worth more than the end of an episode."""


class LearnedReward:
    """``r(s, a)`` = a conservative objective of a reward ensemble's scores, on the ensemble's device.

    Preferences between segments of equal length say nothing about a constant that is added to every step, yet where
    episodes can end early it decides whether going on is worth more than the end, whose value is 0. `shift` is that
    constant; `shift_for_survival` finds one for tasks whose episodes end by failing.

    Args:
        ensemble: trained on observations and actions side by side.
        objective, coefficient: as in `conservative`.
        shift: added to every reward.
    """

    def __init__(
        self,
        ensemble: RewardEnsemble,
        objective: str = "uwo",
        coefficient: float | None = None,
        shift: float = 0.0,
    ) -> None:
        self.ensemble, self.objective, self.shift = ensemble, objective, shift
        conservative(torch.zeros(ensemble.members, 1), objective, coefficient)  # complains of what is wrong with them
        self.coefficient = OBJECTIVES[objective] if coefficient is None else float(coefficient)

    @torch.no_grad()
    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return rewards ``[B]`` of observations and actions in [-1, 1], both ``[B, …]``; asks the host nothing."""
        return self.combine(self.scores(observations, actions))

    @torch.no_grad()
    def scores(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the members' scores ``[k, B]``."""
        scores: Tensor = self.ensemble(torch.cat([observations, actions], -1))
        return scores

    def combine(self, scores: Tensor) -> Tensor:
        """Return rewards ``[…]`` of members' scores ``[k, …]``."""
        return conservative(scores, self.objective, self.coefficient, check=False) + self.shift

    def describe(self) -> str:
        """Return the objective and the ensemble's hash, which tells whether two are the same."""
        digest = hashlib.blake2b(digest_size=8)
        for value in self.ensemble.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        shift = f" {self.shift:+g}" if self.shift else ""
        return f"{self.objective}({self.coefficient:g}){shift} of {self.ensemble.members} members {digest.hexdigest()}"

    def shift_for_survival(self, dataset: Dataset, spaces: SpaceAdapter) -> LearnedReward:
        """Return this reward with the shift that leaves `SURVIVAL` of a dataset's rewards above 0."""
        unshifted = LearnedReward(self.ensemble, self.objective, self.coefficient)
        lowest = float(np.quantile(unshifted._label(dataset, spaces), 1 - SURVIVAL))
        return LearnedReward(self.ensemble, self.objective, self.coefficient, -lowest)

    def relabel(self, dataset: Dataset, spaces: SpaceAdapter) -> Dataset:
        """Return the dataset with this reward in place of its own, and says so in it. Doing it twice changes nothing.

        Raises:
            UserError: when data and ensemble do not fit, or a member's scores are not finite.
        """
        return replace(dataset, rewards=self._label(dataset, spaces), rewards_from=self.describe())

    def _label(self, dataset: Dataset, spaces: SpaceAdapter) -> Array:
        width, expected = dataset.observations.shape[1] + dataset.actions.shape[1], self.ensemble.inputs.mean.shape[0]
        if width != expected:
            raise UserError(
                f"dataset '{dataset.name}' has {width} observations and actions a step, the reward ensemble takes "
                f"{expected}: they do not belong together"
            )
        device = self.ensemble.mean.device
        found = []
        for rows in dataset.chunks():
            observations = torch.from_numpy(np.ascontiguousarray(dataset.observations[rows])).to(device)
            actions = torch.from_numpy(np.asarray(spaces.from_environment(dataset.actions[rows]), np.float32))
            scores = self.scores(observations, actions.to(device))
            check_members(scores)
            found.append(self.combine(scores).cpu().numpy())
        return np.concatenate(found).astype(np.float32)
