"""A member of the family for each episode of fine-tuning, by the returns of the latest episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.config import FinetuneConfig, WarmupConfig
from balrl.rollout import Step
from balrl.run.family import Arm, arms_of, balance_of, play
from balrl.run.selection import ended_episodes

FORGETTING = 0.98
"""What an episode counts for after each later one: the policy changes under the members."""
CERTAIN = 3.0
"""Discounted episodes that a member has behind it before it may be the one that acts."""


class DiscountedBandit:
    """Discounted UCB (Garivier and Moulines, 2011): an arm's value is its discounted mean plus ``ξ √(ln n / n_a)``.

    ξ is the spread of all values so far, n the discounted episodes of all arms, n_a those of the arm; arms that are
    being played count as if they had ended already, so that worlds side by side do not all draw the same.

    Args:
        arms: how many; the first is drawn first.
    """

    def __init__(self, arms: int) -> None:
        self.counts, self.sums = [0.0] * arms, [0.0] * arms
        self.low, self.high = math.inf, -math.inf

    def draw(self, playing: list[int]) -> int:
        """Return the arm to play."""
        counts = [count + playing.count(arm) for arm, count in enumerate(self.counts)]
        if 0.0 in counts:
            return counts.index(0.0)
        spread, total = self.high - self.low if self.high > self.low else 1.0, math.log(max(math.e, sum(counts)))

        def bound(arm: int) -> float:
            return self.mean(arm) + spread * math.sqrt(total / counts[arm])

        return max(range(len(counts)), key=lambda arm: (bound(arm), -arm))

    def add(self, arm: int, value: float) -> None:
        """Take note of an episode's value."""
        self.counts = [FORGETTING * count for count in self.counts]
        self.sums = [FORGETTING * total for total in self.sums]
        self.counts[arm] += 1
        self.sums[arm] += value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def mean(self, arm: int) -> float:
        """Return an arm's discounted mean; 0 without episodes."""
        return self.sums[arm] / self.counts[arm] if self.counts[arm] else 0.0

    def best(self) -> int | None:
        """Return the arm with the largest mean of those that have played enough; None if there is none."""
        known = [arm for arm, count in enumerate(self.counts) if count >= CERTAIN]
        return max(known, key=lambda arm: (self.mean(arm), -arm)) if known else None


class MemberBandit:
    """Draws the member that explores at the start of every episode; the best by its latest episodes acts elsewhere.

    Args:
        finetune, warmup: of the run; the arms are the warm-up's.
        agent: whose policy is a family.
        worlds: side by side.
    """

    def __init__(self, finetune: FinetuneConfig, warmup: WarmupConfig, agent: Agent, worlds: int) -> None:
        self.config, self.agent = finetune, agent
        balance = balance_of(agent)
        chosen = Arm("chosen", float(balance.kept), float(balance.shift))
        self.arms = [chosen, *arms_of(balance, warmup.arms, warmup.members)]
        self.bandit = DiscountedBandit(len(self.arms))
        self.playing: list[int] = []
        for _ in range(worlds):
            self.playing.append(self.bandit.draw(self.playing))
        self._rows()

    def explore(self, observations: Tensor, worlds: Tensor | None = None) -> Tensor:
        """Return the exploring actions ``[B, action_dim]`` of the members drawn for some worlds ``[B]``; None: all."""
        kept, shift = (x if worlds is None else x[worlds] for x in (self._kept, self._shift))
        return play(self.agent, observations, kept, shift, explores=True)

    def saw(self, step: Step, worlds: set[int] | None = None) -> None:
        """Take note of a vector step, and draw the next episodes' members.

        Args:
            step: of all worlds.
            worlds: in which the learner played; None: in all.
        """
        _, ended = ended_episodes(step, self.config.member_by, "finetune.member_by")
        for world, found in ended.items():
            if found is not None and (worlds is None or world in worlds):
                self.bandit.add(self.playing[world], found[0])
        for world in ended:
            self.playing[world] = -1
            self.playing[world] = self.bandit.draw(self.playing)
        if ended:
            best = self.bandit.best()
            if best is not None:
                balance_of(self.agent).choose(self.arms[best].kept, self.arms[best].shift)
            self._rows()

    def state(self) -> dict[str, Any]:
        """Return everything, as plain JSON types."""
        bandit = self.bandit
        return {
            "counts": bandit.counts,
            "sums": bandit.sums,
            "range": [bandit.low, bandit.high] if bandit.high >= bandit.low else [],
            "playing": list(self.playing),
            "chosen": [self.arms[0].kept, self.arms[0].shift],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self.bandit.counts, self.bandit.sums = list(state["counts"]), list(state["sums"])
        if state["range"]:
            self.bandit.low, self.bandit.high = state["range"]
        self.playing = list(state["playing"])
        self.arms[0] = Arm("chosen", *state["chosen"])
        self._rows()

    def _rows(self) -> None:
        arms, device = [self.arms[arm] for arm in self.playing], self.agent.device
        self._kept = torch.tensor([arm.kept for arm in arms], device=device)
        self._shift = torch.tensor([arm.shift for arm in arms], device=device)
