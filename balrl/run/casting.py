"""Who acts in each phase of a run: the learner, a policy with random actions, members of a family, frozen champions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from balrl.config import RunConfig
from balrl.remembering import RememberingPolicy
from balrl.rollout import Policy, Step
from balrl.run.champions import Champions
from balrl.run.components import Components
from balrl.run.family import OWN, balance_of
from balrl.run.member_bandit import MemberBandit
from balrl.run.objectives import PreferencePlay
from balrl.run.selection import Selection
from balrl.run.state import RunState
from balrl.run.strategies import Strategy, begin_strategy, resumed_strategy, strategy_notice

Log = Callable[[Mapping[str, float]], None]


class Actor(NamedTuple):
    """Who acts in a vector step, and who is told what became of it."""

    policy: Policy
    saw: Callable[[Step], None] | None = None


class Casting:
    """Chooses who acts, by the configuration and by what the episodes were worth; its state goes into checkpoints.

    Args:
        config: of the run.
        components: its agent, worlds and display.
    """

    def __init__(self, config: RunConfig, components: Components) -> None:
        self.config, self.components = config, components
        self._selection: Selection | None = None
        self._members: MemberBandit | None = None
        self._champions: Champions | None = None
        self._strategy: Strategy | None = None
        self._preferences: PreferencePlay | None = None
        self._remembering: RememberingPolicy | None = None
        self._is_released = False

    def warmup(self) -> Actor:
        """Return who acts in the warm-up."""
        c, run = self.config.warmup, self.components
        assert run.interaction is not None
        if c.select != "none":
            selection = self._selection or self._begin_selection()
            return Actor(selection.act, selection.saw)
        if c.kind == "random":
            return Actor(run.interaction.random_actions)
        return self._with_strategy() or self._learner_alone() or Actor(run.agent.explore)

    def finetune(self, log: Log) -> Actor:
        """Return who acts in fine-tuning; `log` is told of a new champion."""
        c, run = self.config.finetune, self.components
        with_strategy = self._with_strategy()
        if with_strategy is not None:
            return with_strategy
        alone = self._learner_alone()
        if alone is not None:
            return alone
        if c.member == "bandit" and self._members is None:
            self._begin_members()
        champions = (self._champions or self._begin_champions()) if c.serve == "champion" else None
        if c.member == "own" and run.agent.is_family and not self._is_released:
            balance_of(run.agent).choose(OWN.kept, OWN.shift)  # after the chosen one became the first champion
            self._is_released = True
        if champions is not None:
            return Actor(champions.act, lambda step: self._watch(champions, step, log))
        if self._members is not None:
            return Actor(self._members.explore, self._members.saw)
        return Actor(run.agent.explore)

    def conclude_warmup(self, state: RunState) -> bool:
        """Let the member that the warm-up chose act at its end, and say which it is; return whether there was one."""
        if self._selection is None:
            return False
        state.selection, self._selection = self._selection.conclude(), None
        found, notice = state.selection, self.components.display.notice
        arm, own, count = found["arms"][found["winner"]], found["arms"][0], len(found["arms"])
        if own["episodes"]:
            mean, of_own = arm["pooled"]["mean"], own["pooled"]["mean"]
            notice(
                f"balance: {arm['label']} is chosen, mean {found['by']} {mean:.4g} (own choice: {of_own:.4g}), "
                f"by {sum(a['episodes'] for a in found['arms'])} episodes of {count} members together"
            )
        else:
            notice(
                f"the {self.config.warmup.steps:,} steps of the warm-up were too few to compare {count} members of the "
                "family: its own choice acts; raise warmup.steps, or lower warmup.members or num_envs"
            )
        return True

    def note(self, state: RunState) -> None:
        """Write down where everything stands."""
        if self._selection is not None:
            state.selection = {"state": self._selection.state()}
        if self._members is not None:
            state.members = self._members.state()
        if self._strategy is not None:
            state.strategy = self._strategy.state()
        if self._champions is not None:
            state.champion = self._champions.tournament.report() | {"state": self._champions.tournament.state()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the frozen policies' tensors."""
        if self._strategy is not None:
            return self._strategy.tensors()
        if self._preferences is not None:
            return self._preferences.tensors()
        if self._remembering is not None:
            return self._remembering.tensors()
        return self._champions.tensors() if self._champions is not None else {}

    def load(self, state: RunState, tensors: Mapping[str, Tensor], exact: bool = True) -> None:
        """Go on from what `note` wrote down and `tensors` gave; if not `exact`, in new episodes."""
        self._selection = self._members = self._champions = self._strategy = self._preferences = None
        self._remembering = None
        if self.components.agent.remembers and exact:
            self._remembering = RememberingPolicy.resumed(self.components.agent, tensors)
        if "playing" in tensors and exact:
            self._preferences = PreferencePlay(self.components.agent, self.components.env.num_envs, tensors)
        if state.strategy:
            run = self.components
            self._strategy = resumed_strategy(self.config, run.agent, run.env.num_envs, state.strategy, tensors)
            if not exact:
                self._strategy.restart()
        if "state" in state.selection:
            self._begin_selection(state.selection["state"])
        if state.members:
            self._begin_members().load(state.members)
        if "state" in state.champion:
            self._begin_champions().load(state.champion["state"], tensors)

    def _with_strategy(self) -> Actor | None:
        """Return who acts where the run has a strategy, which begins with the first step; None without."""
        if self.config.finetune.strategy == "warm-start":
            return None
        run = self.components
        if self._strategy is None:
            self._strategy = begin_strategy(
                self.config, run.agent, run.env.num_envs, run.interaction is None or run.interaction.is_fresh
            )
            run.display.notice(strategy_notice(self.config))
        return Actor(self._strategy.explore, self._strategy.saw)

    def _learner_alone(self) -> Actor | None:
        """Return who acts where the agent learns from several rewards or remembers; None for all others."""
        run = self.components
        if run.agent.remembers:
            if self._remembering is None:
                self._remembering = RememberingPolicy(run.agent, explores=True)
            return Actor(self._remembering, self._remembering.saw)
        if run.agent.reward_dim == 1:
            return None
        if self._preferences is None:
            self._preferences = PreferencePlay(run.agent, run.env.num_envs)
        return Actor(self._preferences.explore, self._preferences.saw)

    def _begin_selection(self, stored: Mapping[str, Any] | None = None) -> Selection:
        run = self.components
        self._selection = Selection(self.config.warmup, run.agent, run.env.num_envs, run.instruments.probe, stored)
        return self._selection

    def _begin_members(self) -> MemberBandit:
        c, run = self.config, self.components
        self._members = MemberBandit(c.finetune, c.warmup, run.agent, run.env.num_envs)
        return self._members

    def _begin_champions(self) -> Champions:
        run = self.components
        assert run.interaction is not None
        fresh = run.interaction.is_fresh
        self._champions = Champions(self.config.champion, run.agent, run.env.num_envs, fresh, self._members)
        return self._champions

    def _watch(self, champions: Champions, step: Step, log: Log) -> None:
        """Take note of a vector step, and say so where there is a new champion."""
        changes = champions.tournament.changes
        before = len(changes)
        champions.saw(step)
        if len(changes) > before:
            change, by = changes[-1], self.config.champion.by
            log({"champion/born": change["born"], "champion/probability": change["probability"]})
            self.components.display.notice(
                f"champion: the policy of {change['born']:,} steps after the switch, mean {by} {change['mean']:.4g} of "
                f"{change['episodes'][0]} episodes over {change['over']:.4g} of {change['episodes'][1]}"
            )
