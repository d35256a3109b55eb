"""Puts the online side of a run together: collector, replay or rollouts, and what fine-tuning draws from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from balrl.agent import Agent, Phase
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.execution.steps import GraphCollector
from balrl.memory import check_fits
from balrl.next_actions import NextActions
from balrl.on_policy import RolloutBuffer
from balrl.replay import MixedReplay, ReplayBuffer, Sampler
from balrl.replay_kind import replay_kind
from balrl.returns import MonteCarlo, RunningEpisodes
from balrl.rewards.several import AnyLearner
from balrl.rollout import Collector
from balrl.run.footprint import replay_bytes
from balrl.run.interaction import Interaction
from balrl.run.presets import TrainConfig

PHASES: tuple[Phase, ...] = ("offline", "online")


def make_online(
    config: TrainConfig,
    env: gym.vector.VectorEnv[Any, Any, Any],
    agent: Agent,
    offline: ReplayBuffer | None,
    rewards: RewardTransform,
    returns: MonteCarlo,
    learner: AnyLearner | None,
    notice: Callable[[str], None] = lambda _: None,
) -> tuple[Interaction, Sampler]:
    """Return what fills the online replay and what fine-tuning draws from.

    Raises:
        UserError: when replay, batch, agent and reward do not fit together.
    """
    retained = len(offline) if offline is not None and config.finetune.retain != "none" else 0
    appended = retained if config.finetune.retain == "append" else 0
    incoming = config.warmup.steps + config.finetune.steps + 2 * config.num_envs  # each phase can overshoot
    capacity = min(config.replay.capacity, appended + incoming)
    if capacity < max(appended, config.num_envs):
        raise UserError(
            f"replay.capacity is {config.replay.capacity:,}, expected at least "
            f"{max(appended, config.num_envs):,} for the logged transitions to append and one step of every environment"
        )
    if config.finetune.steps and min(capacity, appended + incoming) + retained - appended < config.batch_size:
        raise UserError(
            f"batch_size is {config.batch_size:,}, the replay will never hold more than {capacity:,} transitions: "
            "no update would be made"
        )
    fields = agent.fields_in("online")
    if config.reward.online_every and "mc_returns" in fields:
        raise UserError(
            f"reward.online_every changes rewards in the replay, agent {config.agent.name} keeps Monte-Carlo returns "
            "of them there: choose another agent, or leave it out"
        )
    if agent.fits_normalizer and (config.data.normalize_observations or config.init.checkpoint):
        raise UserError(
            "agent.normalize_observations would replace the statistics that the data or the checkpoint gives; "
            "switch it off"
        )
    rollouts = _make_rollouts(config, env.num_envs, agent) if agent.on_policy else None
    if rollouts is not None:
        capacity = rollouts.steps * env.num_envs
    widths = agent.spaces.observation_dim, agent.spaces.step_action_dim
    check_fits(
        replay_bytes(capacity, *widths, agent.reward_dim),
        f"the replay of {capacity:,} transitions",
        "lower replay.capacity",
        agent.device,
    )
    replay = replay_kind(agent, env.num_envs)(capacity, *widths, agent.device, fields)
    interaction = Interaction(
        _make_collector(config, env, agent, notice),
        replay,
        rewards,
        agent.stream,
        next_actions=NextActions() if "next_actions" in fields else None,
        episodes=RunningEpisodes(env.num_envs, returns) if "mc_returns" in fields else None,
        logged=offline if appended else None,
        action_limit=_action_limit(config),
        rollouts=rollouts,
        reward=learner.reward if learner is not None else None,
        recent=learner.recent if learner is not None else None,
    )
    if config.finetune.retain == "ratio" and offline is not None:
        return interaction, MixedReplay(offline, replay, config.finetune.offline_ratio)
    return interaction, replay


def check_chunks(config: TrainConfig, agent: Agent) -> None:
    """Raise a `UserError` where an agent cannot learn from chunks of actions, or is not given any."""
    if agent.config.chunk_size == 1:
        return
    chunks = f"agent.chunk_size={agent.config.chunk_size}"
    if agent.on_policy:
        raise UserError(f"{chunks}: agent {config.agent.name} learns from single steps; leave it at 1")
    unfit = {field for phase in PHASES for field in agent.fields_in(phase)} - {"trusted"}
    if unfit:
        raise UserError(
            f"{chunks}: agent {config.agent.name} learns from single steps with {' and '.join(sorted(unfit))}; leave "
            "it at 1"
        )
    if config.warmup.steps and config.warmup.kind == "offline-data":
        raise UserError(f"{chunks}: warmup.kind=offline-data takes rows one by one; set warmup.kind=frozen-policy")


def _make_collector(
    config: TrainConfig, env: gym.vector.VectorEnv[Any, Any, Any], agent: Agent, notice: Callable[[str], None]
) -> Collector:
    if config.environment.stale:
        return _make_ahead(config, env, agent, notice)
    if config.compile == "off" or agent.device.type != "cuda":
        return Collector(env, agent.device, config.seed)
    return GraphCollector(env, agent.device, config.seed, notice)


def _make_ahead(
    config: TrainConfig, env: gym.vector.VectorEnv[Any, Any, Any], agent: Agent, notice: Callable[[str], None]
) -> Collector:
    """Return what lets actors run ahead; refuse what needs the newest policy, or another one than the agent's own."""
    from balrl.envs.ahead import AheadCollector
    from balrl.envs.remote import RemoteVectorEnv

    assert isinstance(env, RemoteVectorEnv)
    for setting, found, expected in (
        ("agent.chunk_size", config.agent.chunk_size, 1),
        ("warmup.select", config.warmup.select, "none"),
        ("finetune.strategy", config.finetune.strategy, "warm-start"),
        ("finetune.serve", config.finetune.serve, "newest"),
    ):
        if found != expected:
            raise UserError(f"environment.stale={config.environment.stale} needs {setting}={expected}, found {found}")
    if config.finetune.member == "bandit":
        raise UserError(
            "environment.stale cannot go with finetune.member=bandit: it has another member act per episode"
        )
    if agent.on_policy:
        raise UserError(
            f"environment.stale: agent {config.agent.name} learns from its present policy's own steps; leave it at 0"
        )
    agent.freeze()  # or it is refused
    notice("actors run ahead (environment.stale): the run is not repeatable, and a resumed one begins new episodes")
    return AheadCollector(env, agent.device, config.seed, config.environment.stale)


def _action_limit(config: TrainConfig) -> float:
    own = config.data.online_action_limit
    return config.data.action_limit if own is None else own


def _make_rollouts(config: TrainConfig, num_envs: int, agent: Agent) -> RolloutBuffer:
    """Return what an agent that learns from its present policy alone is given; refuse what it cannot use."""
    for setting, found, expected in (
        ("finetune.retain", config.finetune.retain, "none"),
        ("finetune.utd_ratio", config.finetune.utd_ratio, 1.0),
        ("finetune.serve", config.finetune.serve, "newest"),
    ):
        if found != expected:
            raise UserError(
                f"{setting} is {found}, expected {expected}: agent {config.agent.name} learns from its present "
                "policy's own steps"
            )
    return agent.rollout_buffer(num_envs, config.batch_size)
