"""Choosing a member of the family in the warm-up, by the returns of its own episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.batch import Batch
from balrl.config import WarmupConfig
from balrl.errors import UserError
from balrl.rollout import Step
from balrl.run.family import arms_of, balance_of, estimates, places_of, play
from balrl.run.halving import Halving


class Selection:
    """Deals the warm-up's episodes to the members of an agent's family, and lets the best act at its end.

    The policy is frozen meanwhile. Which member is best its returns say, not the critics; see `Halving` for how, and
    for what the interval is worth.

    Args:
        config: of the warm-up.
        agent: whose policy is a family.
        worlds: side by side.
        probe: logged transitions that the offline estimates are taken on, if there are any.
        state: of a selection to go on with, as `state` gives it.
    """

    def __init__(
        self,
        config: WarmupConfig,
        agent: Agent,
        worlds: int,
        probe: Batch | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.agent = config, agent
        self.arms = arms_of(balance_of(agent), config.arms, config.members)
        if state is not None:
            self.halving, self.estimates = Halving.from_state(state["halving"]), list(state["estimates"])
        else:
            places = places_of(agent, self.arms, probe.observations if probe is not None else None)
            self.halving = Halving(len(self.arms), config.steps, worlds, config.confidence, places)
            self.estimates = estimates(agent, self.arms, probe) if probe is not None else []
        self._rows()

    def act(self, observations: Tensor) -> Tensor:
        """Return the actions ``[N, action_dim]`` of the members that play in each world."""
        return play(self.agent, observations, self._kept, self._shift, self.config.arms_act == "explore")

    def saw(self, step: Step) -> None:
        """Take note of a vector step, and deal the next episodes."""
        made, ended = ended_episodes(step, self.config.select_by, "warmup.select_by")
        self.halving.advance(made, ended)
        if ended:
            self._rows()

    def conclude(self) -> dict[str, Any]:
        """Let the winner act until another is chosen, and return the whole story as plain JSON types."""
        winner = self.halving.winner()
        arm = self.arms[winner]
        balance_of(self.agent).choose(arm.kept, arm.shift)
        return self.report() | {"winner": winner, "probability": round(self.halving.probability(winner), 4)}

    def report(self) -> dict[str, Any]:
        """Return every arm with its episodes, their mean and a 95 % interval of it, and the offline estimates.

        ``pooled`` is what all arms' episodes together say of it.
        """
        arms, pooled = [], self.halving.pooled()
        for index, arm in enumerate(self.arms):
            values = self.halving.counted(index)
            known = self.estimates[index] if self.estimates else {}
            together = {} if pooled is None else {"pooled": pooled.interval(index)}
            arms.append(arm.to_json() | {"episodes": len(values), **mean_and_interval(values), **together, **known})
        return {"by": self.config.select_by, "confidence": self.config.confidence, "arms": arms}

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs, as plain JSON types."""
        return {"halving": self.halving.state(), "estimates": self.estimates}

    def _rows(self) -> None:
        """Set who plays in each world; where no episode counts, whoever leads."""
        dealt = [arm for arm, _ in self.halving.playing]
        leader = self.halving.leader if min(dealt) < 0 else 0
        playing = [self.arms[arm if arm >= 0 else leader] for arm in dealt]
        self._kept = torch.tensor([arm.kept for arm in playing], device=self.agent.device)
        self._shift = torch.tensor([arm.shift for arm in playing], device=self.agent.device)


def ended_episodes(step: Step, by: str, setting: str) -> tuple[int, dict[int, tuple[float, int] | None]]:
    """Return how many transitions a vector step made, and what became of the episodes that ended with it, by world.

    Args:
        by: what an episode counts, ``return`` or ``success``.
        setting: where that is configured.

    Returns:
        for each ended episode its value and its length; None for one whose world failed.

    Raises:
        UserError: when success counts and the task reports none.
    """
    values = step.returns
    if by == "success":
        if step.success is not None:
            values = step.success.to(values.dtype)
        elif bool(step.done.any()):
            raise UserError(f"{setting} is success, the task reports none: leave it at return")
    valid = torch.ones_like(step.done) if step.valid is None else step.valid
    rows = torch.stack([step.done.to(values.dtype), valid.to(values.dtype), values, step.lengths], -1).tolist()
    ended = {i: (value, int(length)) if ok else None for i, (done, ok, value, length) in enumerate(rows) if done}
    return int(sum(row[1] for row in rows)), ended


def mean_and_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and normal 95 % interval of episodes' values; None where there are too few."""
    if not values:
        return {"mean": None, "low": None, "high": None}
    mean = float(np.mean(values))
    if len(values) == 1:
        return {"mean": mean, "low": None, "high": None}
    half = NormalDist().inv_cdf(0.975) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}
