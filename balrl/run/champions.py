"""The policies of a tournament: they act in the worlds that are dealt to them, and the champion is what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.config import ChampionConfig
from balrl.frozen_policy import FrozenPolicy
from balrl.rollout import Step
from balrl.run.member_bandit import MemberBandit
from balrl.run.selection import ended_episodes
from balrl.run.tournament import LEARNER, Tournament


class Champions:
    """A floor under fine-tuning: the best frozen policy by its episodes is served, the learner learns beside it.

    The policy of the switch is the first champion. See `Tournament` for who plays and who becomes champion. Frozen
    policies act by their modes, the learner explores; whoever plays, its steps go into the replay.

    Args:
        config: of the tournament.
        agent: the learner.
        worlds: side by side.
        is_fresh: whether every world is at the beginning of an episode.
        members: draws the member by which the learner explores; None: its own choice.
    """

    def __init__(
        self, config: ChampionConfig, agent: Agent, worlds: int, is_fresh: bool, members: MemberBandit | None = None
    ) -> None:
        self.config, self.agent, self.members = config, agent, members
        self.tournament = Tournament(config, worlds)
        self.policies: dict[int, FrozenPolicy] = {0: agent.freeze()}
        self.tournament.begin(is_fresh)
        self._settle()

    def act(self, observations: Tensor) -> Tensor:
        """Return the actions ``[N, action_dim]`` of whoever plays in each world."""
        if len(self._groups) == 1:
            return self._act(self._groups[0][0], observations, None)
        parts = [self._act(who, observations[rows], rows) for who, rows in self._groups]
        actions = torch.empty(len(observations), parts[0].shape[-1], dtype=parts[0].dtype, device=parts[0].device)
        for (_, rows), part in zip(self._groups, parts, strict=True):
            actions[rows] = part
        return actions

    def saw(self, step: Step) -> None:
        """Take note of a vector step: name the champion, freeze a challenger where one is due, deal the episodes."""
        if self.members is not None:
            learner = {world for world, who in enumerate(self.tournament.playing) if who == LEARNER}
            self.members.saw(step, learner)
        made, ended = ended_episodes(step, self.config.by, "champion.by")
        self.tournament.advance(made, ended)
        due = bool(ended) and self.tournament.is_due
        if due:
            number = self.tournament.enter()
            self.policies[number] = self.agent.freeze()
        if ended or due:
            self._settle()

    def tensors(self) -> dict[str, Tensor]:
        """Return the frozen policies' tensors, by their numbers."""
        return {
            f"{number}.{name}": tensor
            for number, policy in self.policies.items()
            for name, tensor in policy.state_dict().items()
        }

    def load(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from the tournament's state and `tensors`."""
        self.tournament.load(state)
        self.policies = {}
        for number in {int(name.split(".", 1)[0]) for name in tensors}:
            self.policies[number] = self.agent.freeze()
            self.policies[number].load(tensors, f"{number}.")
        self._settle()

    def _act(self, who: int, observations: Tensor, worlds: Tensor | None) -> Tensor:
        if who >= 0:
            return self.policies[who].act(observations)
        return self.agent.explore(observations) if self.members is None else self.members.explore(observations, worlds)

    def _settle(self) -> None:
        """Serve the champion, forget who is not needed any more, and set who plays where."""
        needed = set(self.tournament.frozen)
        self.policies = {number: policy for number, policy in self.policies.items() if number in needed}
        self.agent.crown(self.policies[self.tournament.champion.id])
        playing = [who if who >= 0 else -1 for who in self.tournament.playing]
        device = self.agent.device
        self._groups = [
            (who, torch.tensor([world for world, other in enumerate(playing) if other == who], device=device))
            for who in dict.fromkeys(playing)
        ]
