"""Puts a run together: seeds, environments, data, agent, replay, evaluation, and what watches over it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.registration import agent_class
from balrl.best_action import check_best_of, repeatable_policy
from balrl.data.behaviour import behaviour_preferences
from balrl.data.prepare import RewardTransform, monte_carlo, observation_statistics
from balrl.devices import check_device
from balrl.disk import Prefetcher
from balrl.envs.gymnasium_env import DEFAULT_LIMIT
from balrl.errors import UserError
from balrl.evaluation import Evaluation, evaluate_policy, together
from balrl.execution.updates import choose_updates
from balrl.memory import check_fits
from balrl.replay import ReplayBuffer
from balrl.rewards.several import AnyLearner
from balrl.run.assemble_data import (
    Logged,
    Shared,
    make_logged,
    make_offline,
    make_reward,
    read_recorded,
    reward_units,
)
from balrl.run.assemble_online import check_chunks, make_online
from balrl.run.components import Components, Stop
from balrl.run.family import balance_of
from balrl.run.footprint import planned_bytes
from balrl.run.given import GivenTask
from balrl.run.inputs import Given
from balrl.run.objectives import check_composes, check_rewards, evaluated_preferences
from balrl.run.presets import TrainConfig
from balrl.run.registry import make_agent, make_env, reference_of, step_limit, task_fingerprint
from balrl.run.strategies import check_strategy
from balrl.run.warm_start import Source, read_source, take_over
from balrl.spaces import SpaceAdapter, reward_dim, space_to_json
from balrl.watch.display import Display
from balrl.watch.instruments import SwitchInstruments
from balrl.watch.watchdog import Watchdog


def assemble(
    config: TrainConfig,
    display: Display,
    stored: Mapping[str, Any] | None = None,
    shared: Shared | None = None,
    stored_reward: Mapping[str, Tensor] | None = None,
    given: Given | None = None,
) -> Components:
    """Put a run together. Writes nothing.

    Args:
        config: of the run.
        display: told what was assumed and what was taken over.
        stored: the JSON part of the checkpoint that the run goes on from, if it does.
        shared: the same for all runs that may share their logged data.
        stored_reward: the state of a learned reward in that checkpoint.
        given: data and task that were handed over as objects.

    Raises:
        UserError: when any of it does not fit together.
    """
    shared = {} if shared is None else shared
    device = check_device(config.device)
    if config.data.disk and device.type != "cpu":
        raise UserError(f"data.disk keeps the data on the host, the run's device is {device}: set device=cpu")
    given, stop = given or Given(), Stop()
    _seed_everything(config)
    source = read_source(config.init.checkpoint) if config.init.checkpoint and stored is None else None
    task = given.env or config.env
    weights = config.data.reward_weights
    env = make_env(task, config.num_envs, device, config.env_kwargs, config.environment, weights)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    check_fits(
        planned_bytes(config.agent, spaces.observation_dim, spaces.action_dim),
        f"agent {config.agent.name} with its optimisers",
        "lower agent.critics or agent.hidden",
        device,
    )
    recorded = read_recorded(config, given.dataset, spaces, step_limit(env), display, shared)
    check_rewards(config, env, recorded)
    check_composes(config)
    if agent_class(config.agent).offline_only:
        _check_offline(config)
    learner = make_reward(config, recorded, spaces, device, display, stored_reward if stored else None)
    logged = make_logged(config, recorded, spaces, learner, shared)
    rewards = reward_units(config, logged, source, stored, display)
    agent = _prepared_agent(config, env, device, logged, source, stored is not None, display)
    returns = monte_carlo(config.data, agent.discount, rewards)
    offline = make_offline(config, logged, rewards, returns, agent, shared)
    interaction, sampler = None, None
    if config.warmup.steps or config.finetune.steps:
        interaction, sampler = make_online(config, env, agent, offline, rewards, returns, learner, display.notice)
    instruments, watchdog = _watchers(config, agent, logged, offline, rewards)
    eval_env, evaluate = _evaluation(config, task, agent, stop)
    return Components(
        agent=agent,
        updates=choose_updates(
            config.compile, agent, config.planned_updates, display.notice, display.working, config.precision
        ),
        interaction=interaction,
        offline=offline,
        sampler=sampler,
        prefetcher=Prefetcher(offline, agent.stream) if config.data.disk and offline is not None else None,
        instruments=instruments,
        watchdog=watchdog,
        evaluate=evaluate,
        stop=stop,
        display=display,
        reward=learner,
        identity={
            "config": config.model_dump(mode="json"),
            "observation_space": space_to_json(env.single_observation_space),
            "action_space": space_to_json(env.single_action_space),
            "rewards": {"scale": rewards.scale, "bias": rewards.bias},
            "task": {"name": str(task), "fingerprint": task_fingerprint(env)},
            "dataset_fingerprint": recorded.fingerprint() if recorded is not None else None,
            "reward": _described(learner, stored),
        },
        env=env,
        eval_env=eval_env,
    )


def _described(learner: AnyLearner | None, stored: Mapping[str, Any] | None) -> str | None:
    """Return what a learned reward was at the run's start, as it is known then."""
    if learner is None:
        return None
    return str(stored["reward"]) if stored is not None else learner.reward.describe()


def _seed_everything(config: TrainConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002
    torch.manual_seed(config.seed)


def _prepared_agent(
    config: TrainConfig,
    env: gym.vector.VectorEnv[Any, Any, Any],
    device: torch.device,
    logged: Logged | None,
    source: Source | None,
    resumes: bool,
    display: Display,
) -> Agent:
    """Return the agent as it begins: its observations' statistics fitted, what the run starts from taken over."""
    agent = make_agent(config.agent, env.single_observation_space, env.single_action_space, device)
    if config.data.normalize_observations:
        if logged is None and source is None and not resumes:
            raise UserError("data.normalize_observations is on but the run has no dataset; set it to false")
        if logged is not None:
            mean, std = observation_statistics(logged.dataset, config.data.normalization_eps)
            agent.normalizer.fit(torch.from_numpy(mean), torch.from_numpy(std))
    if logged is not None and not resumes:
        recorded = logged.recorded
        starts = [rows.start for rows in recorded.episode_slices]
        preferences = behaviour_preferences(recorded)[starts] if recorded.reward_dim > 1 and agent.remembers else None
        agent.see_returns(recorded.episode_returns, preferences)
    if agent.remembers:
        _check_remembering(config)
    if agent.critic is None and config.warmup.steps and config.warmup.kind == "critic-only":
        raise UserError(f"warmup.kind=critic-only needs critics, agent {config.agent.name} has none")
    if config.finetune.steps and config.finetune.member == "bandit":
        balance_of(agent)
    if config.warmup.steps and config.warmup.select != "none":
        balance_of(agent)
        if config.warmup.kind not in ("frozen-policy", "critic-only"):
            raise UserError(
                f"warmup.select={config.warmup.select} has the family play, warmup.kind={config.warmup.kind} somebody "
                "else: set warmup.kind=frozen-policy"
            )
    check_chunks(config, agent)
    check_strategy(config, agent)
    if config.finetune.steps and config.finetune.serve == "champion":
        agent.freeze()  # refuses what cannot be
    if source is not None:
        for line in take_over(agent, source, config.init):
            display.notice(line)
    return agent


def _check_offline(config: TrainConfig) -> None:
    """Raise a `UserError` for what an agent that only imitates logged returns cannot do."""
    name = config.agent.name
    if config.warmup.steps or config.finetune.steps:
        raise UserError(f"agent {name} learns from logged data alone: set warmup.steps=0 and finetune.steps=0")
    if (config.data.reward_scale, config.data.reward_bias, config.data.reward_normalization) != (1.0, 0.0, "none"):
        raise UserError(f"agent {name} asks for raw returns: leave data.reward_… alone, and set agent.return_scale")
    if config.reward.is_learned:
        raise UserError(f"agent {name} takes the task's rewards off its target: train it without a learned reward")


def _check_remembering(config: TrainConfig) -> None:
    """Raise a `UserError` for what looks at single observations, where the agent remembers the episode."""
    c, name = config, config.agent.name
    for setting, found, expected in (
        ("warmup.select", c.warmup.select, "none"),
        ("finetune.strategy", c.finetune.strategy, "warm-start"),
        ("finetune.serve", c.finetune.serve, "newest"),
        ("environment.stale", c.environment.stale, 0),
    ):
        if found != expected:
            raise UserError(
                f"{setting}={found} has policies act on single observations, agent {name} remembers the episode: set "
                f"{setting}={expected}"
            )
    if c.finetune.member == "bandit":
        raise UserError(f"finetune.member=bandit: agent {name} remembers the episode; set finetune.member=own")
    if c.warmup.steps and c.warmup.kind == "offline-data":
        raise UserError(
            f"warmup.kind=offline-data takes rows one by one, agent {name} learns from sequences; set "
            "warmup.kind=frozen-policy, or finetune.retain=append"
        )
    transforms = (c.data.reward_scale, c.data.reward_bias, c.data.reward_normalization) != (1.0, 0.0, "none")
    if getattr(c.agent, "previous_reward", False) and (transforms or c.reward.is_learned):
        raise UserError(
            f"agent {name} sees the task's own rewards, and data.reward_… or reward.… change them in the replay: set "
            "agent.previous_reward=false"
        )


def _watchers(
    config: TrainConfig, agent: Agent, logged: Logged | None, offline: ReplayBuffer | None, rewards: RewardTransform
) -> tuple[SwitchInstruments, Watchdog]:
    """Return what measures the switch, with its frozen batch of logged data, and what names divergence."""
    pretrained = config.pretrain.updates > 0 or (config.init.checkpoint is not None and "critic" in config.init.parts)
    watchdog = Watchdog(config.watchdog, agent.discount, pretrained)
    probe = None
    if logged is not None and offline is not None:
        watchdog.see_rewards(torch.from_numpy(rewards(logged.recorded.rewards)))
        chosen = np.random.default_rng(config.seed).integers(len(offline), size=config.instruments.rows)
        rows = torch.from_numpy(chosen).to(agent.device)
        probe = offline.transitions(rows) if agent.sequence_length > 1 else offline.gather(rows)
    return SwitchInstruments(probe), watchdog


def _evaluation(
    config: TrainConfig, task: str | GivenTask, agent: Agent, stop: Stop
) -> tuple[gym.vector.VectorEnv[Any, Any, Any], Callable[[bool], Evaluation]]:
    """Return the worlds that the agent is evaluated in, and what evaluates there: what is served, or the newest."""
    c = config.evaluation
    worlds, weights = min(c.num_envs, c.episodes), config.data.reward_weights
    env = make_env(task, worlds, agent.device, config.env_kwargs, config.environment, weights)
    reference = reference_of(task, env) if reward_dim(env) == 1 and not weights else None
    preferences = evaluated_preferences(config.agent, c.preferences)
    limit = c.max_episode_steps or (None if step_limit(env) else DEFAULT_LIMIT)
    check_best_of(agent, c.best_of)

    def evaluate(newest: bool) -> Evaluation:
        found = [
            evaluate_policy(
                repeatable_policy(agent, c.best_of, c.objective, c.seed, newest=newest),
                env,
                c.episodes,
                c.seed,
                agent.device,
                reference,
                limit,
                should_stop=lambda: stop.requested,
                preference=preference,
            )
            for preference in preferences
        ]
        return together(found, c.hypervolume_reference)

    return env, evaluate
