"""Several learned rewards at once: an ensemble for every dimension, each made conservative by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from balrl.config import RewardConfig
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.next_actions import NextActions
from balrl.on_policy import RolloutBuffer
from balrl.replay import ReplayBuffer
from balrl.rewards.learner import RewardLearner, grouped, make_learner
from balrl.rewards.recent import RecentInteraction
from balrl.rewards.reward import LearnedReward
from balrl.spaces import SpaceAdapter


class LearnedRewards:
    """``r(s, a) ∈ R^m``, a learned reward per dimension; a conservative objective is taken in each before any weights.

    Args:
        parts: one `LearnedReward` for each dimension, their ensembles of equally many members.
    """

    def __init__(self, parts: Sequence[LearnedReward]) -> None:
        self.parts = tuple(parts)

    @torch.no_grad()
    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return rewards ``[B, m]`` of observations and actions in [-1, 1], both ``[B, …]``."""
        return torch.stack([part(observations, actions) for part in self.parts], -1)

    @torch.no_grad()
    def scores(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the members' scores ``[k, B, m]``."""
        return torch.stack([part.scores(observations, actions) for part in self.parts], -1)

    def combine(self, scores: Tensor) -> Tensor:
        """Return rewards ``[…, m]`` of members' scores ``[k, …, m]``."""
        each = zip(self.parts, scores.unbind(-1), strict=True)
        return torch.stack([part.combine(of_part) for part, of_part in each], -1)

    def describe(self) -> str:
        """Return every dimension's objective and ensemble."""
        return "; ".join(part.describe() for part in self.parts)

    def relabel(self, dataset: Dataset, spaces: SpaceAdapter) -> Dataset:
        """Return the dataset with these rewards in place of its own, and says so in it."""
        labelled = [part.relabel(dataset, spaces).rewards for part in self.parts]
        return replace(dataset, rewards=np.stack(labelled, -1), rewards_from=self.describe())


class RewardLearners:
    """A run's learned rewards, a `RewardLearner` per dimension, with preferences and rounds of its own.

    Args:
        parts: one for each dimension; their teachers compare by that of the task's rewards.
        recent: what rounds of new preferences are asked about; None: there are none.
    """

    def __init__(self, parts: Sequence[RewardLearner], recent: RecentInteraction | None = None) -> None:
        self.parts, self.recent = tuple(parts), recent

    @property
    def reward(self) -> LearnedRewards:
        """As it is now."""
        return LearnedRewards([part.reward for part in self.parts])

    @property
    def rounds(self) -> int:
        """Held so far."""
        return self.parts[0].rounds

    def is_due(self, before: int, after: int) -> bool:
        """Return whether a round is due between two numbers of environment steps."""
        return self.parts[0].is_due(before, after)

    def learn(self) -> dict[str, float]:
        """Hold a round in every dimension, and return what came of each.

        Raises:
            UserError: as `RewardLearner.learn`, before anything is learned in any dimension.
        """
        assert self.recent is not None
        seen = self.recent.dataset(self.parts[0].env_id)
        made = [part.ask_about(seen.of_reward(index)) for index, part in enumerate(self.parts)]
        found: dict[str, float] = {}
        for index, (part, new) in enumerate(zip(self.parts, made, strict=True), 1):
            found |= {f"{key}_{index}": value for key, value in part.learn_from(new).items()}
        return found

    def relabel(self, storage: ReplayBuffer | RolloutBuffer | NextActions, units: RewardTransform) -> None:
        """Give what was stored the rewards as they are now, in the run's units."""
        reward = self.reward
        storage.relabel(lambda o, a: units.scale * reward(o, a.clamp(-1, 1)) + units.bias)

    def state_dict(self) -> dict[str, Tensor]:
        """Return every dimension's state, and the recent interaction."""
        state = {f"{i}.{key}": value for i, part in enumerate(self.parts) for key, value in part.state_dict().items()}
        if self.recent is not None:
            state |= {f"recording.{key}": value for key, value in self.recent.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        groups = grouped(state)
        for index, part in enumerate(self.parts):
            part.load_state_dict(groups[str(index)])
        if self.recent is not None and "recording" in groups:
            self.recent.load_state_dict(groups["recording"])


AnyLearner = RewardLearner | RewardLearners


def make_learners(
    config: RewardConfig,
    dataset: Dataset | None,
    spaces: SpaceAdapter,
    env_id: str,
    seed: int,
    device: torch.device,
    recent: RecentInteraction | None,
    objectives: int,
    stored: Mapping[str, Tensor] | None = None,
) -> AnyLearner:
    """Return a run's learned reward, or one for each of several; see `make_learner`."""
    if objectives == 1:
        return make_learner(config, dataset, spaces, env_id, seed, device, recent, stored)
    parts, groups = [], grouped(stored or {})
    for index in range(objectives):
        seen, known = (None if dataset is None else dataset.of_reward(index)), groups.get(str(index))
        parts.append(make_learner(config, seen, spaces, env_id, seed + index, device, None, known, index))
    if recent is not None and "recording" in groups:
        recent.load_state_dict({key: value.to(device) for key, value in groups["recording"].items()})
    return RewardLearners(parts, recent)
