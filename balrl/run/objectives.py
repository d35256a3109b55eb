"""Several rewards in a run: what fits together, who acts, and which preferences are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.config import AgentConfig
from balrl.data.dataset import Dataset
from balrl.envs.multi_objective import WeightedRewards
from balrl.errors import UserError
from balrl.front import check_reference, simplex_grid
from balrl.remembering import RememberingPolicy
from balrl.rollout import Step
from balrl.run.presets import TrainConfig
from balrl.spaces import reward_dim
from balrl.vector_critics import draw_preferences, with_preference


def check_rewards(config: TrainConfig, env: gym.vector.VectorEnv[Any, Any, Any], recorded: Dataset | None) -> None:
    """Raise a `UserError` where task, data and agent differ in how many rewards a step has, with what would mend it.

    Also for weights that weigh nothing: task and data, as they were before, have one reward each. And for a reference
    above which no hypervolume can be measured.
    """
    agent, env_id = config.agent, config.env
    is_weighted = isinstance(env, WeightedRewards) or (recorded is not None and recorded.is_weighted)
    if config.data.reward_weights and not is_weighted:
        raise UserError("data.reward_weights weigh several rewards, task and data have one: leave them out")
    wanted = agent.reward_dim
    found = [(f"environment {env_id}", reward_dim(env))]
    if recorded is not None:
        found.append((f"dataset '{recorded.name}'", recorded.reward_dim))
    for name, count in found:
        if count == wanted:
            continue
        if wanted == 1:
            weights = ", ".join([f"{1 / count:.2g}"] * count)
            raise UserError(
                f"{name} has {count} rewards a step, agent {agent.name} learns from one: give "
                f"data.reward_weights=[{weights}], or choose an agent for several (mo-sac, mo-iql, mo-td3bc)"
            )
        have = "one reward" if count == 1 else f"{count} rewards"
        cure = "choose an agent for one" if count == 1 else f"set agent.objectives={count}"
        raise UserError(f"{name} has {have} a step, agent {agent.name} learns from {wanted}: {cure}")
    if wanted > 1 and config.evaluation.hypervolume_reference is not None:
        check_reference(config.evaluation.hypervolume_reference, wanted)


def check_composes(config: TrainConfig) -> None:
    """Raise a `UserError` for what takes one reward, in a run with several."""
    objectives = config.agent.reward_dim
    if objectives == 1:
        return
    for setting, found, expected in (
        ("data.top_fraction", config.data.top_fraction, 1.0),
        ("warmup.select", config.warmup.select, "none"),
        ("finetune.strategy", config.finetune.strategy, "warm-start"),
        ("finetune.serve", config.finetune.serve, "newest"),
        ("finetune.member", config.finetune.member, "own"),
        ("environment.stale", config.environment.stale, 0),
    ):
        if found != expected:
            raise UserError(
                f"{setting}={found} compares by one reward, agent {config.agent.name} learns from {objectives}: "
                f"set {setting}={expected}"
            )


def evaluated_preferences(agent: AgentConfig, count: int) -> list[tuple[float, ...]] | list[None]:
    """Return which preferences an evaluation plays, at least `count`; nothing to choose where there is one reward."""
    objectives = agent.reward_dim
    if objectives == 1:
        return [None]
    return [tuple(row) for row in simplex_grid(objectives, count).tolist()]


class Shown:
    """A policy that is shown other observations, and told of other rewards, than its worlds have.

    Args:
        act: maps observations to actions; one that remembers (`RememberingPolicy`) hears of steps and beginnings, too.
        observations: makes what it is shown of what there is, ``[N, ·]``.
        weights: of the rewards ``[m]`` whose sum it is told of; None: it hears of all as they are.
    """

    def __init__(
        self,
        act: Callable[[Tensor], Tensor],
        observations: Callable[[Tensor], Tensor],
        weights: Sequence[float] | None = None,
    ) -> None:
        self._act, self._observations, self._weights = act, observations, weights

    def __call__(self, observations: Tensor) -> Tensor:
        """Return actions ``[N, action_dim]``."""
        return self._act(self._observations(observations))

    def begin(self) -> None:
        """Hear that every world begins a new episode."""
        if isinstance(self._act, RememberingPolicy):
            self._act.begin()

    def saw(self, step: Step) -> None:
        """Take note of what became of the actions."""
        if not isinstance(self._act, RememberingPolicy):
            return
        if self._weights is not None:
            rewards = step.batch.rewards
            step = step._replace(batch=step.batch._replace(rewards=rewards @ rewards.new_tensor(self._weights)))
        self._act.saw(step)


class PreferencePlay:
    """Every world plays one preference for an episode, drawn uniformly on the simplex.

    Args:
        agent: learns from several rewards.
        worlds: side by side.
        tensors: of what was played, to go on with; new preferences are drawn without.
    """

    def __init__(self, agent: Agent, worlds: int, tensors: Mapping[str, Tensor] | None = None) -> None:
        self.agent = agent
        self.playing = self._drawn(worlds) if tensors is None else tensors["playing"].to(agent.device)

    def explore(self, observations: Tensor) -> Tensor:
        """Return the actions ``[N, action_dim]`` that are taken to learn from them."""
        return self.agent.explore(with_preference(observations, self.playing))

    def saw(self, step: Step) -> None:
        """Take note of a vector step: where an episode ended, another preference is played."""
        self.playing = torch.where(step.done.unsqueeze(-1), self._drawn(len(step.done)), self.playing)

    def tensors(self) -> dict[str, Tensor]:
        """Return what is played, for a checkpoint."""
        return {"playing": self.playing}

    def _drawn(self, worlds: int) -> Tensor:
        return draw_preferences(self.agent.stream.uniform(worlds, self.agent.reward_dim))
