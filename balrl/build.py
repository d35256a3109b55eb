"""Composes agents, environments, data and phases by name: the one place that knows them all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from balrl.agents.config import AgentConfig
from balrl.config import RunConfig, override, parse_yaml, read_config_file, validate
from balrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agents.base import Agent
    from balrl.data.dataset import Dataset
    from balrl.data.reference import Reference
    from balrl.train import Display, Parts

BUILT_IN_DATASETS = ("point-maze-mixed",)


class TrainConfig(RunConfig):
    """A whole run: environment, data, agent, phases."""

    agent: AgentConfig = Field(description="which algorithm, and its hyperparameters")


def preset_names() -> list[str]:
    """Return the names of the presets that balrl ships, such as ``iql/locomotion``."""
    root = resources.files("balrl.configs")
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """Return a preset's YAML, comments and sources included."""
    names = preset_names()
    if name not in names:
        raise UserError(f"no preset '{name}'{did_you_mean(name, names)}; presets: {', '.join(names)}")
    return resources.files("balrl.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def load_config(
    preset: str | None = None,
    file: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> TrainConfig:
    """Build the configuration of a run from a preset or a YAML file, and dotted settings over it.

    Args:
        preset: a name of `preset_names`.
        file: a YAML file instead of a preset.
        settings: such as ``{"agent.expectile": "0.9", "seed": "3"}``; values are YAML.

    Raises:
        UserError: for an unknown preset, key or value; the message names the nearest right one.
    """
    if (preset is None) == (file is None):
        raise UserError(f"give a preset or a configuration file; presets: {', '.join(preset_names())}")
    if file is not None:
        source, data = f"'{file}'", read_config_file(Path(file))
    else:
        source, data = f"preset {preset}", parse_yaml(preset_text(str(preset)), f"preset {preset}")
    if settings:
        data, source = override(data, settings), f"{source} with your settings"
    return validate(TrainConfig, data, source)


def dump_config(config: TrainConfig) -> str:
    """Return a configuration as YAML that `load_config` reads back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


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
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"no device '{name}' here; found {', '.join(found)}") from error
    return device


def make_env(
    env_id: str, num_envs: int, device: torch.device | str = "cpu", kwargs: Mapping[str, Any] | None = None
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Build a vector environment by its Gymnasium id: ours on the device, others' on the CPU."""
    import gymnasium as gym

    import balrl.envs  # registers balrl/…
    from balrl.envs.gymnasium_env import make_gymnasium_env

    if env_id not in gym.registry:
        _register_robotics()
    try:
        spec = gym.spec(env_id)
        if spec.vector_entry_point is not None:
            return gym.make_vec(env_id, num_envs=num_envs, device=device, **(kwargs or {}))
        return make_gymnasium_env(env_id, num_envs, dict(kwargs or {}))
    except gym.error.UnregisteredEnv as error:
        extra = "" if "Adroit" not in env_id and "Maze" not in env_id else "; install the extra: pip install 'balrl[robotics]'"
        hint = did_you_mean(env_id, gym.registry)
        raise UserError(f"no environment '{env_id}' is registered with Gymnasium{hint}{extra}") from error
    except (TypeError, ValueError, gym.error.Error) as error:
        raise UserError(f"environment '{env_id}' cannot be made with {dict(kwargs or {})}: {error}") from error


def _register_robotics() -> None:
    """Register gymnasium-robotics' tasks where it is installed."""
    import gymnasium as gym

    try:
        with warnings.catch_warnings():  # its note on Adroit's rewards is in our docs
            warnings.simplefilter("ignore")
            import gymnasium_robotics

            gym.register_envs(gymnasium_robotics)
    except ImportError:
        pass


def load_dataset(path_or_id: str | Path, max_episode_steps: int | None = None) -> Dataset:
    """Read a D4RL HDF5 file, or make built-in data by its name.

    Args:
        path_or_id: a path, or ``point-maze-mixed``.
        max_episode_steps: of the environment, for files without timeouts.

    Raises:
        UserError: when there is no such file, or it is not a readable dataset.
    """
    name = str(path_or_id)
    if name == "point-maze-mixed":
        from balrl.envs.waypoints import mixed_dataset

        return mixed_dataset()
    path = Path(path_or_id)
    if not path.is_file():
        hint = did_you_mean(name, BUILT_IN_DATASETS)
        raise UserError(
            f"no dataset file at '{path}'{hint}; give a D4RL HDF5 file or a built-in name: {', '.join(BUILT_IN_DATASETS)}"
        )
    from balrl.data.d4rl import load_d4rl

    return load_d4rl(path, max_episode_steps)


def make_agent(
    config: AgentConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    device: torch.device | str = "cpu",
) -> Agent:
    """Build the agent that a configuration names."""
    import balrl.agents as agents

    classes: Sequence[type[Agent]] = (agents.BC, agents.IQL, agents.SAC)
    by_config = {cls.config_type: cls for cls in classes}
    return by_config[type(config)](observation_space, action_space, config, device)


def reference_of(env_id: str, env: gym.vector.VectorEnv[Any, Any, Any]) -> Reference | None:
    """Return what scores on an environment are normalised with: its own reference, or D4RL's."""
    from balrl.data.reference import Reference, reference_for

    own = getattr(env, "reference_returns", None)
    return Reference(*own, env_id) if own else reference_for(env_id)


def make_parts(
    config: TrainConfig, run_dir: Path, display: Display, metrics_offset: int | None = None
) -> Parts:
    """Put a run together: seed, environment, data, agent, replay, evaluation, tracking."""
    import random

    import numpy as np
    import torch

    from balrl.data.prepare import (
        check_spaces,
        observation_statistics,
        reward_transform,
        scale_actions,
        to_replay,
    )
    from balrl.evaluate import evaluate_policy
    from balrl.replay import MixedReplay, ReplayBuffer
    from balrl.rollout import Collector
    from balrl.spaces import SpaceAdapter, space_to_json
    from balrl.tracking import Tracker
    from balrl.train import Parts

    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002
    torch.manual_seed(config.seed)

    env = make_env(config.env, config.num_envs, device, config.env_kwargs)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    dataset = None
    if config.dataset is not None:
        limit = config.data.max_episode_steps or (env.spec.max_episode_steps if env.spec else None)
        dataset = load_dataset(config.dataset, limit)
        check_spaces(dataset, spaces, config.env)
        if config.data.top_fraction < 1:
            dataset = dataset.top_fraction(config.data.top_fraction)
        dataset = scale_actions(dataset, spaces)
    rewards = reward_transform(config.data, dataset)

    agent = make_agent(config.agent, env.single_observation_space, env.single_action_space, device)
    if config.data.normalize_observations:
        if dataset is None:
            raise UserError("data.normalize_observations is on but the run has no dataset; set it to false")
        mean, std = observation_statistics(dataset, config.data.normalization_eps)
        agent.normalizer.fit(torch.from_numpy(mean), torch.from_numpy(std))

    fields, discount = agent.batch_fields, getattr(config.agent, "discount", 0.99)
    offline = replay = sampler = collector = None
    if dataset is not None:
        offline = to_replay(dataset, rewards, fields, device=device, discount=discount)
    if config.warmup.steps or config.finetune.steps:
        collector = Collector(env, device, config.seed)
        capacity = min(
            config.replay.capacity, config.warmup.steps + config.finetune.steps + config.num_envs
        )
        if config.finetune.retain == "append" and dataset is not None:
            capacity = min(config.replay.capacity, capacity + len(dataset))
            if capacity < len(dataset):
                raise UserError(
                    f"replay.capacity is {config.replay.capacity:,}, the dataset to append has {len(dataset):,} "
                    "transitions; raise it or set finetune.retain to mix or none"
                )
            replay = to_replay(dataset, rewards, fields, capacity, device, discount)
        else:
            replay = ReplayBuffer(capacity, spaces.observation_dim, spaces.action_dim, device, fields)
        sampler = replay
        if config.finetune.retain == "mix" and offline is not None:
            sampler = MixedReplay(offline, replay, config.finetune.offline_ratio)

    evaluation = config.evaluation
    eval_env = make_env(config.env, min(evaluation.num_envs, evaluation.episodes), device, config.env_kwargs)
    reference = reference_of(config.env, eval_env)
    fingerprint = dataset.fingerprint() if dataset is not None else None
    identity = {
        "config": config.model_dump(mode="json"),
        "observation_space": space_to_json(env.single_observation_space),
        "action_space": space_to_json(env.single_action_space),
        "dataset_fingerprint": fingerprint,
    }
    tracker = Tracker(
        run_dir, identity["config"], config.tracking.wandb, config.tracking.project, metrics_offset
    )
    return Parts(
        agent=agent,
        collector=collector,
        offline=offline,
        replay=replay,
        sampler=sampler,
        rewards=rewards,
        evaluate=lambda: evaluate_policy(
            lambda o: agent.act(o, deterministic=True),
            eval_env,
            evaluation.episodes,
            evaluation.seed,
            device,
            reference,
        ),
        tracker=tracker,
        display=display,
        identity=identity,
    )


def draw_pictures(run_dir: Path, config: TrainConfig, parts: Parts) -> None:
    """Draw ``curves.png``, and ``balance_map.png`` for a family of policies in a point maze."""
    from balrl.envs import PointMazeVectorEnv
    from balrl.report.curves import draw_curves
    from balrl.tracking import read_metrics

    records = read_metrics(run_dir / "metrics.jsonl")
    if records:
        normalized = any("eval/normalized_score" in record for record in records)
        title = f"{config.agent.name} on {config.env}, seed {config.seed}"
        label = "normalised score" if normalized else "mean return"
        draw_curves(records, run_dir / "curves.png", title, label)
    env = make_env(config.env, 1, kwargs=config.env_kwargs).unwrapped
    balance = getattr(parts.agent, "balance", None)
    if isinstance(env, PointMazeVectorEnv) and balance is not None and balance.is_family:
        _draw_balance_map(run_dir / "balance_map.png", parts, env, config)


def _draw_balance_map(path: Path, parts: Parts, env: PointMazeVectorEnv, config: TrainConfig, fine: int = 8) -> None:
    import numpy as np
    import torch

    from balrl.report.balance_map import draw_balance_map

    rows, columns = env.walls.shape
    y, x = torch.meshgrid(
        (torch.arange(rows * fine) + 0.5) / fine, (torch.arange(columns * fine) + 0.5) / fine, indexing="ij"
    )
    states = torch.stack([x, y, torch.zeros_like(x), torch.zeros_like(x)], -1).reshape(-1, 4)
    with torch.no_grad():
        observations = parts.agent.normalizer(env.observe(states).to(parts.agent.device))
        chosen = parts.agent.balance.mode(observations).cpu().numpy().reshape(x.shape)
    coverage = np.zeros(x.shape)
    if parts.offline is not None:
        positions = env.states_of(parts.offline.gather(torch.arange(len(parts.offline))).observations.cpu())
        cells = (positions[:, :2] * fine).long().numpy()
        np.add.at(coverage, (cells[:, 1], cells[:, 0]), 1)
    bounds = (config.agent.balance.minimum, config.agent.balance.maximum)
    draw_balance_map(path, env.walls.numpy(), tuple(env.goal.tolist()), chosen, coverage, bounds)
