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
from balrl.data.prepare import RewardTransform, monte_carlo, observation_statistics
from balrl.disk import Prefetcher
from balrl.errors import UserError
from balrl.evaluation import Evaluation, evaluate_policy
from balrl.execution.updates import choose_updates
from balrl.replay import ReplayBuffer
from balrl.run.assemble_data import (
    Logged,
    Shared,
    make_logged,
    make_offline,
    make_reward,
    read_recorded,
    reward_units,
)
from balrl.run.assemble_online import make_online
from balrl.run.components import Components
from balrl.run.presets import TrainConfig
from balrl.run.registry import make_agent, make_env, reference_of, resolve_device, step_limit
from balrl.run.warm_start import Source, read_source, take_over
from balrl.spaces import SpaceAdapter, space_to_json
from balrl.watch.display import Display
from balrl.watch.instruments import SwitchInstruments
from balrl.watch.watchdog import Watchdog


def assemble(
    config: TrainConfig,
    display: Display,
    stored: Mapping[str, Any] | None = None,
    shared: Shared | None = None,
    stored_reward: Mapping[str, Tensor] | None = None,
) -> Components:
    """Put a run together. Writes nothing.

    Args:
        config: of the run.
        display: told what was assumed and what was taken over.
        stored: the JSON part of the checkpoint that the run goes on from, if it does.
        shared: the same for all runs that may share their logged data.
        stored_reward: the state of a learned reward in that checkpoint.

    Raises:
        UserError: when any of it does not fit together.
    """
    shared = {} if shared is None else shared
    device = resolve_device(config.device)
    if config.data.disk and device.type != "cpu":
        raise UserError(f"data.disk keeps the data on the host, the run's device is {device}: set device=cpu")
    _seed_everything(config)
    source = read_source(config.init.checkpoint) if config.init.checkpoint and stored is None else None
    env = make_env(config.env, config.num_envs, device, config.env_kwargs)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    recorded = read_recorded(config, spaces, step_limit(env), display, shared)
    learner = make_reward(config, recorded, spaces, device, display, stored_reward if stored else None)
    logged = make_logged(config, recorded, spaces, learner, shared)
    rewards = reward_units(config, logged, source, stored, display)
    agent = _prepared_agent(config, env, device, logged, source, stored is not None, display)
    returns = monte_carlo(config.data, agent.discount, rewards)
    offline = make_offline(config, logged, rewards, returns, agent.fields_in("offline"), device, shared)
    interaction, sampler = None, None
    if config.warmup.steps or config.finetune.steps:
        interaction, sampler = make_online(config, env, agent, offline, rewards, returns, learner, display.notice)
    instruments, watchdog = _watchers(config, agent, logged, offline, rewards)
    eval_env, evaluate = _evaluation(config, agent)
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
        display=display,
        reward=learner,
        identity={
            "config": config.model_dump(mode="json"),
            "observation_space": space_to_json(env.single_observation_space),
            "action_space": space_to_json(env.single_action_space),
            "rewards": {"scale": rewards.scale, "bias": rewards.bias},
            "dataset_fingerprint": recorded.fingerprint() if recorded is not None else None,
            "reward": learner.reward.describe() if learner is not None else None,
        },
        env=env,
        eval_env=eval_env,
    )


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
    if agent.critic is None and config.warmup.steps and config.warmup.kind == "critic-only":
        raise UserError(f"warmup.kind=critic-only needs critics, agent {config.agent.name} has none")
    if source is not None:
        for line in take_over(agent, source, config.init):
            display.notice(line)
    return agent


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
        probe = offline.gather(torch.from_numpy(chosen).to(agent.device))
    return SwitchInstruments(probe), watchdog


def _evaluation(
    config: TrainConfig, agent: Agent
) -> tuple[gym.vector.VectorEnv[Any, Any, Any], Callable[[], Evaluation]]:
    """Return the worlds that the agent is evaluated in, and its evaluation there."""
    c = config.evaluation
    env = make_env(config.env, min(c.num_envs, c.episodes), agent.device, config.env_kwargs)
    reference = reference_of(config.env, env)

    def evaluate() -> Evaluation:
        return evaluate_policy(
            lambda o: agent.act(o, deterministic=True), env, c.episodes, c.seed, agent.device, reference
        )

    return env, evaluate
