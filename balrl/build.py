"""Composes agents, environments, data and phases by name: the one place that knows them all."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.agents.config import AgentConfig
from balrl.data import MINARI
from balrl.errors import UserError, did_you_mean
from balrl.presets import TrainConfig

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agents.base import Agent
    from balrl.data.dataset import Dataset
    from balrl.data.inspect import TaskContext
    from balrl.data.prepare import RewardTransform
    from balrl.data.reference import Reference
    from balrl.display import Display
    from balrl.interaction import Interaction
    from balrl.parts import Parts
    from balrl.replay import ReplayBuffer, Sampler
    from balrl.returns import MonteCarlo
    from balrl.spaces import SpaceAdapter

BUILT_IN_DATASETS = ("point-maze-mixed", "point-maze-large", "point-maze-halves")


def resolve_device(name: str) -> torch.device:
    """Return the device that a configuration names; ``auto`` is a GPU where there is one.

    Raises:
        UserError: when there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"no device '{name}' here; found {', '.join(found)}") from error
    return device


def make_env(
    env_id: str, num_envs: int, device: torch.device | str = "cpu", kwargs: Mapping[str, Any] | None = None
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build a vector environment by its Gymnasium id: ours on the device, others' on the CPU."""
    import gymnasium as gym

    from balrl.envs.gymnasium_env import make_gymnasium_env

    if env_id not in gym.registry:
        _register_robotics()
    options = dict(kwargs or {})
    try:
        if env_id.startswith("balrl/"):
            return gym.make_vec(env_id, num_envs=num_envs, device=device, **options)
        return make_gymnasium_env(env_id, num_envs, options)
    except gym.error.UnregisteredEnv as error:
        robotics = "Adroit" in env_id or "Maze" in env_id
        extra = "; its package comes with: pip install 'balrl[robotics]'" if robotics else ""
        hint = did_you_mean(env_id, gym.registry)
        raise UserError(f"no environment '{env_id}' is registered with Gymnasium{hint}{extra}") from error
    except Exception as error:  # whatever the task's own constructor objects to, it is what the user asked for
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"environment '{env_id}' cannot be made with {options}: {reason}") from error


def _register_robotics() -> None:
    """Register gymnasium-robotics' tasks where it is installed."""
    import gymnasium as gym

    with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # prints a note on Adroit's rewards, which stands in docs/data.md

        gym.register_envs(gymnasium_robotics)


def load_dataset(path_or_id: str | Path, max_episode_steps: int | None = None) -> Dataset:
    """Read a D4RL HDF5 file or a Minari dataset, or make built-in data by its name.

    Args:
        path_or_id: a file, a Minari folder, ``minari:ID``, or one of ``point-maze-mixed``, ``point-maze-large`` and
            ``point-maze-halves``.
        max_episode_steps: of the environment, for files without timeouts.

    Raises:
        UserError: when there is no such file, or it is not a readable dataset.
    """
    name = str(path_or_id)
    if name in BUILT_IN_DATASETS:
        from balrl.envs.waypoints import halves_dataset, mixed_dataset

        if name == "point-maze-halves":
            return halves_dataset()
        return mixed_dataset(layout="large" if name == "point-maze-large" else "medium", name=name)
    path = Path(path_or_id)
    if name.startswith(MINARI) or path.is_dir():
        from balrl.data.minari import load_minari
        from balrl.envs.robotics import observation_adapter

        return load_minari(name.removeprefix(MINARI), observation_adapter)
    if not path.is_file():
        hint = did_you_mean(name, BUILT_IN_DATASETS)
        raise UserError(
            f"no dataset file at '{path}'{hint}; give a D4RL HDF5 file, minari:ID or a built-in name: "
            f"{', '.join(BUILT_IN_DATASETS)}"
        )
    from balrl.data.d4rl import load_d4rl

    return load_d4rl(path, max_episode_steps)


def inspection_context(env_id: str | None) -> TaskContext:
    """Return what a task's spaces and step limit say about data for it; nothing without a task."""
    from balrl.data.inspect import TaskContext
    from balrl.spaces import SpaceAdapter

    if env_id is None:
        return TaskContext()
    env = make_env(env_id, 1)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    box: Any = env.single_action_space
    return TaskContext(box.low, box.high, spaces.observation_dim, spaces.action_dim, step_limit(env))


def step_limit(env: gym.vector.VectorEnv[Any, Any, Any]) -> int | None:
    """Return an environment's step limit: a torch environment's own, or its registration's."""
    own = getattr(env.unwrapped, "max_episode_steps", None)
    return own or (env.spec.max_episode_steps if env.spec else None)


def make_agent(
    config: AgentConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    device: torch.device | str = "cpu",
) -> Agent:
    """Build the agent that a configuration names."""
    import balrl.agents as agents

    classes: Sequence[type[Agent]] = (agents.BC, agents.IQL, agents.SAC, agents.CQL, agents.CalQL)
    by_config = {cls.config_type: cls for cls in classes}
    return by_config[type(config)](observation_space, action_space, config, device)


def reference_of(env_id: str, env: gym.vector.VectorEnv[Any, Any, Any]) -> Reference | None:
    """Return what scores on an environment are normalised with: its own reference, or D4RL's."""
    from balrl.data.reference import Reference, reference_for

    own = getattr(env, "reference_returns", None)
    return Reference(own[0], own[1], env_id) if own else reference_for(env_id)


def make_parts(config: TrainConfig, display: Display, stored: Mapping[str, Any] | None = None) -> Parts:
    """Put a run together: seed, environment, data, agent, replay, evaluation. Writes nothing.

    Args:
        config: of the run.
        display: told what was assumed and what was taken over.
        stored: the JSON part of the checkpoint that the run goes on from, if it does.

    Raises:
        UserError: when any of it does not fit together.
    """
    import random

    import numpy as np
    import torch

    from balrl.data.prepare import (
        RewardTransform,
        monte_carlo,
        observation_statistics,
        reward_transform,
        scale_actions,
        to_replay,
    )
    from balrl.evaluation import evaluate_policy
    from balrl.instruments import SwitchInstruments
    from balrl.parts import Parts
    from balrl.spaces import SpaceAdapter, space_to_json
    from balrl.updates import choose_updates
    from balrl.warm_start import read_source, take_over
    from balrl.watchdog import Watchdog

    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002
    torch.manual_seed(config.seed)

    source = read_source(config.init.checkpoint) if config.init.checkpoint and stored is None else None
    env = make_env(config.env, config.num_envs, device, config.env_kwargs)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    recorded = _load_checked(config, spaces, step_limit(env)) if config.dataset is not None else None
    if stored is not None:
        rewards = RewardTransform(**stored["rewards"])
    elif source is not None and source.rewards is not None and "critic" in config.init.parts:
        rewards = source.rewards  # its critics know no other units
        asked = (
            reward_transform(config.data, recorded) if recorded or config.data.reward_normalization == "none" else None
        )
        if asked != rewards:
            display.notice(f"rewards: × {rewards.scale:g} + {rewards.bias:g}, the units of {source.label}'s critics")
    else:
        rewards = reward_transform(config.data, recorded)
    dataset = None
    if recorded is not None:
        for note in recorded.notes:
            display.notice(f"{recorded.name}: {note}")
        dataset = scale_actions(recorded.top_fraction(config.data.top_fraction), spaces, config.data.action_limit)

    agent = make_agent(config.agent, env.single_observation_space, env.single_action_space, device)
    if config.data.normalize_observations:
        if dataset is None and source is None and stored is None:
            raise UserError("data.normalize_observations is on but the run has no dataset; set it to false")
        if dataset is not None:
            mean, std = observation_statistics(dataset, config.data.normalization_eps)
            agent.normalizer.fit(torch.from_numpy(mean), torch.from_numpy(std))
    if agent.critic is None and config.warmup.steps and config.warmup.kind == "critic-only":
        raise UserError(f"warmup.kind=critic-only needs critics, agent {config.agent.name} has none")
    if source is not None:
        for line in take_over(agent, source, config.init):
            display.notice(line)

    returns = monte_carlo(config.data, getattr(config.agent, "discount", 1.0), rewards)
    offline = None
    if dataset is not None:
        offline = to_replay(dataset, rewards, agent.fields_in("offline"), device, returns)
    interaction, sampler = None, None
    if config.warmup.steps or config.finetune.steps:
        interaction, sampler = _make_online(config, env, agent, offline, rewards, returns)
    pretrained = config.pretrain.updates > 0 or (config.init.checkpoint is not None and "critic" in config.init.parts)
    watchdog = Watchdog(config.watchdog, getattr(config.agent, "discount", 1.0), pretrained)
    probe = None
    if recorded is not None and offline is not None:
        watchdog.see_rewards(torch.from_numpy(rewards(recorded.rewards)))
        rows = torch.from_numpy(np.random.default_rng(config.seed).integers(len(offline), size=config.instruments.rows))
        probe = offline.gather(rows.to(device))

    evaluation = config.evaluation
    eval_env = make_env(config.env, min(evaluation.num_envs, evaluation.episodes), device, config.env_kwargs)
    reference = reference_of(config.env, eval_env)

    def close() -> None:
        env.close()
        eval_env.close()

    planned = config.pretrain.updates + config.finetune.steps * config.finetune.utd_ratio
    return Parts(
        agent=agent,
        updates=choose_updates(config.compile, agent, planned, display.notice),
        interaction=interaction,
        offline=offline,
        sampler=sampler,
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
        identity={
            "config": config.model_dump(mode="json"),
            "observation_space": space_to_json(env.single_observation_space),
            "action_space": space_to_json(env.single_action_space),
            "rewards": {"scale": rewards.scale, "bias": rewards.bias},
            "dataset_fingerprint": dataset.fingerprint() if dataset is not None else None,
        },
        close=close,
    )


def _load_checked(config: TrainConfig, spaces: SpaceAdapter, limit: int | None) -> Dataset:
    """Read the run's data and refuse what cannot be trained on."""
    from balrl.data.prepare import check_finite, check_spaces

    dataset = load_dataset(str(config.dataset), config.data.max_episode_steps or limit)
    check_spaces(dataset, spaces, config.env)
    check_finite(dataset)
    return dataset


def _make_online(
    config: TrainConfig,
    env: gym.vector.VectorEnv[Any, Any, Any],
    agent: Agent,
    offline: ReplayBuffer | None,
    rewards: RewardTransform,
    returns: MonteCarlo,
) -> tuple[Interaction, Sampler]:
    """Return what fills the online replay and what fine-tuning draws from."""
    from balrl.interaction import Interaction
    from balrl.replay import MixedReplay, ReplayBuffer
    from balrl.returns import RunningEpisodes
    from balrl.rollout import Collector

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
    replay = ReplayBuffer(capacity, agent.spaces.observation_dim, agent.spaces.action_dim, agent.device, fields)
    interaction = Interaction(
        Collector(env, agent.device, config.seed),
        replay,
        rewards,
        RunningEpisodes(env.num_envs, returns) if "mc_returns" in fields else None,
        offline if appended else None,
        config.data.action_limit if config.data.online_action_limit is None else config.data.online_action_limit,
    )
    if config.finetune.retain == "ratio" and offline is not None:
        return interaction, MixedReplay(offline, replay, config.finetune.offline_ratio)
    return interaction, replay
