"""Puts the data side of a run together: logged experience, its reward, the units that rewards are in."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.data.dataset import Dataset
from balrl.data.prepare import (
    RewardTransform,
    check_finite,
    check_spaces,
    reward_transform,
    scale_actions,
    to_replay,
)
from balrl.disk import mapped_storage
from balrl.errors import UserError
from balrl.replay import ReplayBuffer
from balrl.replay_kind import replay_kind
from balrl.returns import MonteCarlo
from balrl.rewards.recent import RecentInteraction
from balrl.rewards.several import AnyLearner, make_learners
from balrl.run.given import GIVEN
from balrl.run.presets import TrainConfig
from balrl.run.registry import load_dataset
from balrl.run.warm_start import Source
from balrl.spaces import SpaceAdapter
from balrl.watch.display import Display

Shared = MutableMapping[Any, Any]
"""What runs over the same data need not read and hold more than once; filled and used here."""


class Logged(NamedTuple):
    """A run's logged experience: as it was read, and with actions as the agent sees them."""

    recorded: Dataset
    dataset: Dataset


def read_recorded(
    config: TrainConfig,
    given: Dataset | None,
    spaces: SpaceAdapter,
    limit: int | None,
    display: Display,
    shared: Shared,
) -> Dataset | None:
    """Read the run's data if it has any and none was handed over, and refuse what cannot be trained on."""
    if config.dataset is None:
        return None
    key = (config.env, repr(config.env_kwargs), config.dataset, config.data.model_dump_json())
    if key not in shared:
        limit = config.data.max_episode_steps or limit
        recorded = given
        if recorded is None:
            recorded = load_dataset(
                str(config.dataset), limit, config.data.disk is not None, config.data.observation_keys
            )
        if config.data.reward_weights and recorded.reward_dim > 1:
            recorded = recorded.weighted(config.data.reward_weights)
        check_spaces(recorded, spaces, config.env, named=not config.env.startswith(GIVEN))
        check_finite(recorded)
        for note in recorded.notes:
            display.notice(f"{recorded.name}: {note}")
        shared[key] = recorded
    found: Dataset = shared[key]
    return found


def make_reward(
    config: TrainConfig,
    recorded: Dataset | None,
    spaces: SpaceAdapter,
    device: torch.device,
    display: Display,
    stored: Mapping[str, Tensor] | None,
) -> AnyLearner | None:
    """Return the reward that is learned in place of the task's, if one is; of several, each."""
    c, objectives = config.reward, config.agent.reward_dim
    if not c.is_learned:
        return None
    for name, files in (("ensemble", c.ensemble), ("preferences", c.preferences)):
        if files and len(files) != objectives:
            raise UserError(
                f"reward.{name} has {len(files)} files, agent {config.agent.name} learns from {objectives} rewards: "
                "give one for each"
            )
    recent = None
    if c.online_every:
        count = -(-c.online_memory // config.num_envs)
        recent = RecentInteraction(count, config.num_envs, spaces, device, objectives)
    with display.working("learning the reward"):
        learner = make_learners(c, recorded, spaces, config.env, config.seed, device, recent, objectives, stored)
    display.notice(f"reward: {learner.reward.describe()}")
    return learner


def make_logged(
    config: TrainConfig, recorded: Dataset | None, spaces: SpaceAdapter, learner: AnyLearner | None, shared: Shared
) -> Logged | None:
    """Return the data with the reward that the run trains on, and its actions scaled."""
    if recorded is None:
        return None
    key = (id(recorded), config.data.model_dump_json(), id(learner))
    if key not in shared:
        labelled = recorded if learner is None else learner.reward.relabel(recorded, spaces)
        chosen = labelled.top_fraction(config.data.top_fraction)
        shared[key] = Logged(labelled, scale_actions(chosen, spaces, config.data.action_limit))
    found: Logged = shared[key]
    return found


def reward_units(
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


def make_offline(
    config: TrainConfig,
    logged: Logged | None,
    rewards: RewardTransform,
    returns: MonteCarlo,
    agent: Agent,
    shared: Shared,
) -> ReplayBuffer | None:
    """Return the replay that serves the logged data, with the optional fields that the agent asks for."""
    if logged is None:
        return None
    share, fields, device = config.data.trusted_share, agent.fields_in("offline"), agent.device
    chunk = (agent.config.chunk_size, agent.discount) if agent.config.chunk_size > 1 else None
    key = (id(logged), rewards, fields, returns if "mc_returns" in fields else None, device, share, chunk)
    if key not in shared:
        allocate = partial(mapped_storage, folder=Path(config.data.disk)) if config.data.disk else None
        shared[key] = to_replay(logged.dataset, rewards, fields, device, returns, allocate, share, replay_kind(agent))
    found: ReplayBuffer = shared[key]
    return found
