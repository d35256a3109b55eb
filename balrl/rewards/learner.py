"""A run's learned reward: where it comes from, and its rounds of new preferences (PEBBLE, arXiv 2106.05091)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.config import RewardConfig
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.next_actions import NextActions
from balrl.on_policy import RolloutBuffer
from balrl.replay import ReplayBuffer
from balrl.rewards.ensemble import RewardEnsemble
from balrl.rewards.ensemble_training import fit_ensemble
from balrl.rewards.preferences import Preferences
from balrl.rewards.queries import ask
from balrl.rewards.recent import RecentInteraction
from balrl.rewards.reward import LearnedReward
from balrl.rewards.teacher import Teacher
from balrl.spaces import SpaceAdapter


class RewardLearner:
    """Holds a learned reward and the preferences that it was learned from.

    Args:
        config: of the reward.
        spaces: of the task.
        env_id: its id.
        seed: of pairs, teacher, initialisation and the order of data.
        device: where the ensemble lives.
        recent: what rounds of new preferences are asked about; None: there are none.
        preferences: known so far.
        ensemble: trained already; None: one is made as configured, untrained.
    """

    def __init__(
        self,
        config: RewardConfig,
        spaces: SpaceAdapter,
        env_id: str,
        seed: int,
        device: torch.device | str = "cpu",
        recent: RecentInteraction | None = None,
        preferences: Preferences | None = None,
        ensemble: RewardEnsemble | None = None,
    ) -> None:
        self.config, self.spaces, self.env_id, self.seed = config, spaces, env_id, seed
        self.recent, self.preferences, self.rounds = recent, preferences, 0
        width = spaces.observation_dim + spaces.action_dim
        if ensemble is None:
            ensemble = RewardEnsemble(width, config.members, config.hidden, config.shared_trunk, seed)
        elif ensemble.inputs.mean.shape[0] != width:
            raise UserError(
                f"the reward ensemble takes {ensemble.inputs.mean.shape[0]} numbers a step, {env_id} has {width} "
                "observations and actions: they do not belong together"
            )
        self.reward = LearnedReward(ensemble.to(device), config.objective, config.coefficient)

    @property
    def teacher(self) -> Teacher:
        """Who is asked."""
        return Teacher(**self.config.teacher.model_dump())

    def fit(self) -> dict[str, Any]:
        """Train the ensemble on all preferences and return its quality."""
        assert self.preferences is not None
        return fit_ensemble(self.reward.ensemble, self.preferences, self.config, seed=self.seed + self.rounds)

    def shift_for_survival(self, dataset: Dataset) -> None:
        """Choose the reward's shift by logged data."""
        self.reward = self.reward.shift_for_survival(dataset, self.spaces)

    def is_due(self, before: int, after: int) -> bool:
        """Return whether a round is due between two numbers of environment steps."""
        every = self.config.online_every
        return every is not None and before // every != after // every

    def learn(self) -> dict[str, float]:
        """Ask about the newest interaction, train on all preferences, and return what came of it.

        Raises:
            UserError: when no recorded episode is as long as a segment, or the teacher skips nearly everything.
        """
        assert self.recent is not None
        return self.learn_from(self.ask_about(self.recent.dataset(self.env_id)))

    def ask_about(self, seen: Dataset) -> Preferences:
        """Return what the teacher prefers of recorded interaction; changes nothing, and raises as `learn`."""
        c = self.config
        knows = self.preferences is not None or bool(c.ensemble)
        return ask(
            seen,
            self.spaces,
            self.teacher,
            c.online_pairs,
            c.steps,
            self.seed + 1 + self.rounds,
            c.strategy if knows else "uniform",
            self.reward.ensemble,
        )

    def learn_from(self, made: Preferences) -> dict[str, float]:
        """Train on all preferences, these new ones among them, and return what came of it."""
        self.preferences = made if self.preferences is None else self.preferences.join(made)
        self.rounds += 1
        found = self.fit()
        return {
            "reward/rounds": float(self.rounds),
            "reward/preferences": float(len(self.preferences)),
            "reward/accuracy": found["ensemble_accuracy"],
            "reward/calibration_error": found["calibration_error"],
        }

    def relabel(self, storage: ReplayBuffer | RolloutBuffer | NextActions, units: RewardTransform) -> None:
        """Give what was stored the reward as it is now, in the run's units."""
        storage.relabel(lambda o, a: units.scale * self.reward(o, a.clamp(-1, 1)) + units.bias)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the ensemble, the preferences, the recent interaction and the counters."""
        state = {f"ensemble.{key}": value for key, value in self.reward.ensemble.state_dict().items()}
        state |= {"shift": torch.tensor(self.reward.shift, dtype=torch.float64), "rounds": torch.tensor(self.rounds)}
        if self.preferences is not None:
            state |= {f"preferences.{x}": getattr(self.preferences, x) for x in ("observations", "actions", "labels")}
        if self.recent is not None:
            state |= {f"recording.{key}": value for key, value in self.recent.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        groups = grouped(state)
        self.reward.ensemble.load_state_dict(groups["ensemble"])
        self.reward.shift = float(state["shift"])
        self.rounds = int(state["rounds"])
        known = groups.get("preferences")
        if known is not None:
            observations, actions, labels = (known[x].cpu() for x in ("observations", "actions", "labels"))
            self.preferences = Preferences(observations, actions, labels, self.env_id)
        if self.recent is not None and "recording" in groups:
            self.recent.load_state_dict(groups["recording"])


def grouped(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors ``group.name`` by group and name."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = value
    return groups


def make_learner(
    config: RewardConfig,
    dataset: Dataset | None,
    spaces: SpaceAdapter,
    env_id: str,
    seed: int,
    device: torch.device,
    recent: RecentInteraction | None,
    stored: Mapping[str, Tensor] | None = None,
    index: int = 0,
) -> RewardLearner:
    """Return a run's learned reward, trained if there is something to train it on.

    Args:
        dataset: the run's logged data with its true rewards.
        stored: the state that the run goes on from; nothing is trained then.
        index: which of several rewards it is.

    Raises:
        UserError: when ensemble, preferences, data and task do not fit together.
    """
    ensemble = RewardEnsemble.load(Path(config.ensemble[index])) if config.ensemble else None
    learner = RewardLearner(config, spaces, env_id, seed, device, recent, None, ensemble)
    if stored is not None:
        learner.load_state_dict({key: value.to(device) for key, value in stored.items()})
        return learner
    if config.preferences:
        learner.preferences = Preferences.load(Path(config.preferences[index]), env_id)
    elif config.pairs:
        assert dataset is not None
        learner.preferences = ask(dataset, spaces, learner.teacher, config.pairs, config.steps, seed)
    if learner.preferences is not None:
        learner.fit()
    if config.survive:
        assert dataset is not None
        learner.shift_for_survival(dataset)
    return learner
