"""Fine-tuning beside the pre-trained policy: policy expansion and jump-start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.config import JSRLConfig, RunConfig
from balrl.errors import UserError
from balrl.frozen_policy import ExpandedPolicy, FrozenPolicy
from balrl.rollout import Step
from balrl.run.selection import ended_episodes

NO_END = 1 << 40
"""Steps of an episode that is guided to its end."""
UNKNOWN = -1
"""The stage of an episode that somebody else began."""


class Strategy(Protocol):
    """Who acts online, and what is told of it."""

    def explore(self, observations: Tensor) -> Tensor: ...
    def saw(self, step: Step) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def tensors(self) -> dict[str, Tensor]: ...
    def restart(self) -> None: ...


def check_strategy(config: RunConfig, agent: Agent) -> None:
    """Raise a `UserError` where a strategy and the rest of a run do not go together."""
    c = config.finetune
    if c.strategy == "warm-start" or not (config.warmup.steps or c.steps):
        return
    chosen = f"finetune.strategy={c.strategy}"
    carried = config.init.checkpoint is not None and "policy" in config.init.parts
    if not config.pretrain.updates and not carried:
        raise UserError(
            f"{chosen} needs a pre-trained policy: give pretrain.updates, or init.checkpoint and init.parts with it"
        )
    if agent.on_policy:
        raise UserError(f"{chosen}: agent {agent.config.name} learns from its present policy's own steps alone")
    if c.strategy == "pex" and agent.critic is None:
        raise UserError(f"{chosen} needs critics that choose, agent {agent.config.name} has none")
    for setting, found, expected in (
        ("finetune.serve", c.serve, "newest"),
        ("finetune.member", c.member, "own"),
        ("warmup.select", config.warmup.select, "none"),
    ):
        if found != expected:
            raise UserError(f"{chosen} has its own way of choosing who acts: set {setting}={expected}, not {found}")
    if agent.anchor:
        raise UserError(
            f"{chosen}: the learner begins anew, agent.anchor would hold it to where it began; leave it at 0"
        )
    if c.strategy == "pex" and config.evaluation.best_of > 1:
        raise UserError(f"{chosen}: Q chooses between two policies already; set evaluation.best_of=1")
    try:
        agent.freeze()
    except UserError as error:
        raise UserError(f"{chosen} keeps the policy beside the learner: {error}") from error


def begin_strategy(config: RunConfig, agent: Agent, num_envs: int, is_fresh: bool = True) -> Strategy:
    """Keep the policy as it is beside the learner, of which the parts that are not kept begin anew.

    Args:
        is_fresh: whether every world is at the beginning of an episode.
    """
    strategy: Strategy
    if config.finetune.strategy == "pex":
        strategy = PolicyExpansion(agent, ExpandedPolicy(agent, config.pex.inverse_temperature))
    else:
        strategy = JumpStart(config.jsrl, agent, num_envs, agent.freeze(), is_fresh)
    begin_anew(agent, config.finetune.learner)
    return strategy


def resumed_strategy(
    config: RunConfig, agent: Agent, num_envs: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Strategy:
    """Return a strategy that goes on from its `state` and `tensors`; what PEX serves, the agent has restored."""
    if config.finetune.strategy == "pex":
        assert isinstance(agent.champion, ExpandedPolicy)
        return PolicyExpansion(agent, agent.champion)
    strategy = JumpStart(config.jsrl, agent, num_envs, agent.freeze())
    strategy.load(state, tensors)
    return strategy


def strategy_notice(config: RunConfig) -> str:
    """Say what begins with a strategy."""
    kept = {"neither": "nothing"}.get(config.finetune.learner, config.finetune.learner.replace("-", " "))
    if config.finetune.strategy == "pex":
        return f"PEX: the pre-trained policy stays beside the learner, which keeps {kept}; Q chooses who acts"
    return f"JSRL: the pre-trained policy guides the learner, which keeps {kept}"


def begin_anew(agent: Agent, kept: str) -> None:
    """Give an agent fresh parameters and moments in every part but those that are kept, in their places.

    Args:
        kept: ``policy-and-critic``, ``policy``, ``critic`` or ``neither``.
    """
    with torch.random.fork_rng():  # members of a population begin as they would alone
        torch.manual_seed(int(agent.stream.integers(2**31 - 1, 1)))
        fresh = type(agent)(agent.spaces.observation_space, agent.spaces.action_space, agent.config, agent.device)
    parts = {piece.name for piece in agent.carried if piece.part not in kept.split("-and-")}
    if "policy" in parts:
        parts |= {"averaged_policy", "averaged"}
    new = {name: tensor for name, tensor in fresh.state_dict().items() if name.split(".")[0] in parts}
    moments = {key: value.clone() for key, value in agent.optimizer_state().items() if key.split(".")[0] not in parts}
    agent.load_state_dict(agent.state_dict() | new)
    agent.load_optimizer_state(moments)


class PolicyExpansion:
    """PEX (Zhang, Xu and Yu, arXiv 2302.00935): see `ExpandedPolicy`, which acts, and is what is served.

    The learner is trained by its own algorithm on what both did. (The authors' release has the new policy imitate what
    the two of them together would do, weighted by its advantage.)

    Args:
        agent: the learner.
        expanded: the pre-trained policy beside it.
    """

    def __init__(self, agent: Agent, expanded: ExpandedPolicy) -> None:
        self.agent, self.stream = agent, agent.stream
        agent.crown(expanded)

    def explore(self, observations: Tensor) -> Tensor:
        """Return the actions ``[N, action_dim]`` of either policy, by chance."""
        return self.agent.serve(observations, deterministic=False)

    def saw(self, step: Step) -> None:
        """Nothing depends on what became of the episodes."""

    def state(self) -> dict[str, Any]:
        """Return that it has begun; its tensors are the agent's own."""
        return {"begun": True}

    def tensors(self) -> dict[str, Tensor]:
        """Return none."""
        return {}

    def restart(self) -> None:
        """Nothing depends on where the episodes are."""


class JumpStart:
    """JSRL (Uchendu et al., arXiv 2204.02372): a guide acts in the first h steps of an episode, then the learner.

    The guide acts alone in `window` episodes: their mean length is H, unless it is configured, and their mean return
    the best. With returns as curriculum there are n stages, ``h = H (1 − k/n)`` in the k-th: one is passed when the
    last `window` episodes that began in it return, on average, at least the best less its tolerance. The best rises
    with what passes. At random ``h ~ U{0 … H}`` for every episode. In N worlds it is the last ⌈window/N⌉ episodes of
    each, so that short ones, which end first, do not decide.

    Args:
        config: of the curriculum.
        agent: the learner.
        worlds: side by side.
        guide: the pre-trained policy; acts by its mode.
        is_fresh: whether every world is at the beginning of an episode; those that run are not counted.
    """

    def __init__(
        self, config: JSRLConfig, agent: Agent, worlds: int, guide: FrozenPolicy, is_fresh: bool = True
    ) -> None:
        self.config, self.agent, self.guide = config, agent, guide
        self.stage, self.best = 0, 0.0
        self.longest: int | None = None
        self.began = [0 if is_fresh else UNKNOWN] * worlds
        self.ended: list[list[tuple[float, int]]] = [[] for _ in range(worlds)]
        self._each = -(-config.window // worlds)
        self._elapsed = torch.zeros(worlds, dtype=torch.int64, device=agent.device)
        self._horizons = torch.full((worlds,), NO_END, device=agent.device)

    @property
    def horizon(self) -> int:
        """h of an episode that begins now, where it is not drawn."""
        if self.longest is None:
            return NO_END
        return round(self.longest * (1 - self.stage / self.config.stages))

    def explore(self, observations: Tensor) -> Tensor:
        """Return the guide's actions ``[N, action_dim]`` where an episode is young, else the learner's."""
        guided = (self._elapsed < self._horizons).unsqueeze(-1)
        return torch.where(guided, self.guide.act(observations), self.agent.explore(observations))

    def saw(self, step: Step) -> None:
        """Count the steps of the running episodes, and pass on to the next stage where one is earned."""
        self._elapsed = torch.where(step.done, 0, step.lengths)
        _, ended = ended_episodes(step, "return", "")
        for world, episode in ended.items():
            if episode is not None and self.began[world] == self.stage:
                self._count(world, episode)
            self.began[world] = self.stage
            self._horizons[world] = self._drawn()

    def restart(self) -> None:
        """Begin new episodes in every world."""
        self._elapsed = torch.zeros_like(self._elapsed)
        self.began = [self.stage] * len(self.began)
        self._horizons = torch.tensor([self._drawn() for _ in self.began], device=self._horizons.device)

    def _count(self, world: int, episode: tuple[float, int]) -> None:
        """Take note of an episode of the present stage, its return and length."""
        c = self.config
        if self.longest is not None and (c.curriculum == "random" or self.stage == c.stages):
            return
        self.ended[world] = [*self.ended[world], episode][-self._each :]
        if min(map(len, self.ended)) < self._each:
            return
        value, length = np.mean(self.ended, (0, 1)).tolist()
        if self.longest is None:
            self.longest, self.best = c.horizon or round(length), value
        elif value < self.best - c.tolerance * abs(self.best):
            return
        self.stage += 1
        self.best = max(self.best, value)
        self.ended = [[] for _ in self.ended]

    def _drawn(self) -> int:
        if self.longest is None or self.config.curriculum == "returns":
            return self.horizon
        return int(self.agent.stream.integers(self.longest + 1, 1))

    def state(self) -> dict[str, Any]:
        """Return where the curriculum stands, as plain JSON types."""
        return {
            "stage": self.stage,
            "best": self.best,
            "longest": self.longest,
            "began": self.began,
            "ended": self.ended,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the guide's tensors, and what the running episodes have left of it."""
        running = {"elapsed": self._elapsed, "horizons": self._horizons}
        return running | {f"guide.{name}": tensor for name, tensor in self.guide.state_dict().items()}

    def load(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state` and `tensors`."""
        self.stage, self.best, self.longest = state["stage"], state["best"], state["longest"]
        self.began = list(state["began"])
        self.ended = [[(float(value), int(length)) for value, length in world] for world in state["ended"]]
        self._elapsed, self._horizons = tensors["elapsed"], tensors["horizons"]
        self.guide.load(tensors, "guide.")
