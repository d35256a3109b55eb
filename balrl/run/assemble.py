"""Puts a run together: seeds, environment, data, agent, replay, evaluation."""

from __future__ import annotations

import random
from collections.abc import Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.data.dataset import Dataset
from balrl.data.prepare import (
    RewardTransform,
    check_finite,
    check_spaces,
    monte_carlo,
    observation_statistics,
    reward_transform,
    scale_actions,
    to_replay,
)
from balrl.disk import Prefetcher, mapped_storage
from balrl.errors import UserError
from balrl.evaluation import evaluate_policy
from balrl.execution.updates import choose_updates
from balrl.rewards.learner import RewardLearner, make_learner
from balrl.rewards.recent import Recording
from balrl.run.assemble_online import make_online
from balrl.run.components import Parts
from balrl.run.presets import TrainConfig
from balrl.run.registry import load_dataset, make_agent, make_env, reference_of, resolve_device, step_limit
from balrl.run.warm_start import Source, read_source, take_over
from balrl.spaces import SpaceAdapter, space_to_json
from balrl.watch.display import Display
from balrl.watch.instruments import SwitchInstruments
from balrl.watch.watchdog import Watchdog


class Logged(NamedTuple):
    """A run's logged experience: as it was read, and with actions as the agent sees them."""

    recorded: Dataset
    dataset: Dataset


Shared = MutableMapping[Any, Any]
"""What runs over the same data need not read and hold more than once; filled and used by `make_parts`."""


def make_parts(
    config: TrainConfig,
    display: Display,
    stored: Mapping[str, Any] | None = None,
    shared: Shared | None = None,
    stored_reward: Mapping[str, Tensor] | None = None,
) -> Parts:
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
    recorded = _load_recorded(config, spaces, step_limit(env), display, shared) if config.dataset is not None else None
    learner = _make_learner(config, recorded, spaces, device, display, stored, stored_reward)
    logged = _make_logged(config, recorded, spaces, learner, shared) if recorded is not None else None
    rewards = _reward_units(config, logged, source, stored, display)
    agent = make_agent(config.agent, env.single_observation_space, env.single_action_space, device)
    _fit_normalizer(agent, config, logged, source is not None or stored is not None)
    if agent.critic is None and config.warmup.steps and config.warmup.kind == "critic-only":
        raise UserError(f"warmup.kind=critic-only needs critics, agent {config.agent.name} has none")
    if source is not None:
        for line in take_over(agent, source, config.init):
            display.notice(line)

    discount = getattr(config.agent, "discount", 1.0)
    returns = monte_carlo(config.data, discount, rewards)
    offline = None
    if logged is not None:
        fields = agent.fields_in("offline")
        key = (id(logged), rewards, fields, returns if "mc_returns" in fields else None, device)
        if key not in shared:
            allocate = partial(mapped_storage, folder=Path(config.data.disk)) if config.data.disk else None
            shared[key] = to_replay(logged.dataset, rewards, fields, device, returns, allocate)
        offline = shared[key]
    interaction, sampler = None, None
    if config.warmup.steps or config.finetune.steps:
        interaction, sampler = make_online(config, env, agent, offline, rewards, returns, learner)
    pretrained = config.pretrain.updates > 0 or (config.init.checkpoint is not None and "critic" in config.init.parts)
    watchdog = Watchdog(config.watchdog, discount, pretrained)
    probe = None
    if logged is not None and offline is not None:
        watchdog.see_rewards(torch.from_numpy(rewards(logged.recorded.rewards)))
        chosen = np.random.default_rng(config.seed).integers(len(offline), size=config.instruments.rows)
        probe = offline.gather(torch.from_numpy(chosen).to(device))

    evaluation = config.evaluation
    eval_env = make_env(config.env, min(evaluation.num_envs, evaluation.episodes), device, config.env_kwargs)
    reference = reference_of(config.env, eval_env)

    prefetcher = Prefetcher(offline, agent.stream) if config.data.disk and offline is not None else None

    def close() -> None:
        env.close()
        eval_env.close()
        if prefetcher is not None:
            prefetcher.close()

    return Parts(
        agent=agent,
        updates=choose_updates(config.compile, agent, config.planned_updates, display.notice, display.working),
        interaction=interaction,
        offline=offline,
        sampler=sampler,
        prefetcher=prefetcher,
        instruments=SwitchInstruments(probe),
        watchdog=watchdog,
        evaluate=lambda: evaluate_policy(
            lambda o: agent.act(o, deterministic=True),
            eval_env,
            evaluation.episodes,
            evaluation.seed,
            device,
            reference,
        ),
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
        close=close,
    )


def _seed_everything(config: TrainConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002
    torch.manual_seed(config.seed)


def _load_recorded(
    config: TrainConfig, spaces: SpaceAdapter, limit: int | None, display: Display, shared: Shared
) -> Dataset:
    """Read the run's data, and refuse what cannot be trained on."""
    key = (config.env, repr(config.env_kwargs), config.dataset, config.data.model_dump_json())
    if key not in shared:
        limit = config.data.max_episode_steps or limit
        recorded = load_dataset(str(config.dataset), limit, mapped=config.data.disk is not None)
        check_spaces(recorded, spaces, config.env)
        check_finite(recorded)
        for note in recorded.notes:
            display.notice(f"{recorded.name}: {note}")
        shared[key] = recorded
    found: Dataset = shared[key]
    return found


def _make_logged(
    config: TrainConfig, recorded: Dataset, spaces: SpaceAdapter, learner: RewardLearner | None, shared: Shared
) -> Logged:
    """Return the data with the reward that the run trains on, and its actions scaled."""
    key = (id(recorded), config.data.model_dump_json(), id(learner))
    if key not in shared:
        labelled = recorded if learner is None else learner.reward.relabel(recorded, spaces)
        chosen = labelled.top_fraction(config.data.top_fraction)
        shared[key] = Logged(labelled, scale_actions(chosen, spaces, config.data.action_limit))
    found: Logged = shared[key]
    return found


def _make_learner(
    config: TrainConfig,
    recorded: Dataset | None,
    spaces: SpaceAdapter,
    device: torch.device,
    display: Display,
    stored: Mapping[str, Any] | None,
    stored_reward: Mapping[str, Tensor] | None,
) -> RewardLearner | None:
    """Return the reward that is learned in place of the task's, if one is."""
    c = config.reward
    if not c.is_learned:
        return None
    recording = None
    if c.online_every:
        recording = Recording(-(-c.online_memory // config.num_envs), config.num_envs, spaces, device)
    with display.working("learning the reward"):
        learner = make_learner(
            c, recorded, spaces, config.env, config.seed, device, recording, stored_reward if stored else None
        )
    display.notice(f"reward: {learner.reward.describe()}")
    return learner


def _reward_units(
    config: TrainConfig,
    logged: Logged | None,
    source: Source | None,
    stored: Mapping[str, Any] | None,
    display: Display,
) -> RewardTransform:
    """Return the configured units, or those that the critics which the run goes on with were trained in."""
    if stored is not None:
        return RewardTransform(**stored["rewards"])
    recorded = logged.recorded if logged is not None else None
    if source is None or source.rewards is None or "critic" not in config.init.parts:
        return reward_transform(config.data, recorded)
    can_tell = recorded is not None or config.data.reward_normalization == "none"
    if not can_tell or reward_transform(config.data, recorded) != source.rewards:
        scale, bias = source.rewards.scale, source.rewards.bias
        display.notice(f"rewards: × {scale:g} + {bias:g}, the units of {source.label}'s critics")
    return source.rewards


def _fit_normalizer(agent: Agent, config: TrainConfig, logged: Logged | None, goes_on: bool) -> None:
    if not config.data.normalize_observations:
        return
    if logged is None and not goes_on:
        raise UserError("data.normalize_observations is on but the run has no dataset; set it to false")
    if logged is not None:
        mean, std = observation_statistics(logged.dataset, config.data.normalization_eps)
        agent.normalizer.fit(torch.from_numpy(mean), torch.from_numpy(std))
