"""From recorded units to what agents train on: rewards, actions, observation statistics, replay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from balrl.batch import TRANSITION, Batch
from balrl.config import DataConfig
from balrl.data.behaviour import behaviour_preferences
from balrl.data.dataset import Array, Dataset
from balrl.data.inspect import not_finite
from balrl.data.reference import task_name
from balrl.errors import UserError
from balrl.replay import ReplayBuffer
from balrl.returns import MonteCarlo
from balrl.spaces import SpaceAdapter


@dataclass(frozen=True)
class RewardTransform:
    """``r ← scale · r + bias``, the same for logged and for online rewards."""

    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, rewards: Array) -> Array:
        return (self.scale * rewards + self.bias).astype(np.float32)


def reward_transform(config: DataConfig, dataset: Dataset | None) -> RewardTransform:
    """Resolve the configured scale and bias; ``return-range`` multiplies by 1000 / (max − min episode return).

    Raises:
        UserError: when that range is asked for without data, or is zero.
    """
    scale = config.reward_scale
    if config.reward_normalization == "return-range":
        if dataset is not None and dataset.reward_dim > 1:
            raise UserError(
                f"data.reward_normalization 'return-range' is of one reward, '{dataset.name}' has "
                f"{dataset.reward_dim}: set it to 'none', or give data.reward_weights"
            )
        if dataset is None:
            raise UserError("data.reward_normalization is 'return-range' but the run has no dataset; set it to 'none'")
        spread = float(np.ptp(dataset.episode_returns))
        if not spread > 0:
            raise UserError(
                f"every episode of '{dataset.name}' has the return {dataset.episode_returns[0]:g}: "
                "data.reward_normalization 'return-range' would divide by zero; set it to 'none'"
            )
        scale *= 1000.0 / spread
    return RewardTransform(scale, config.reward_bias)


def monte_carlo(config: DataConfig, discount: float, transform: RewardTransform) -> MonteCarlo:
    """Resolve how returns are taken; the configured step penalty is a raw reward.

    Raises:
        UserError: for a return that would be infinite.
    """
    penalty = config.mc_step_penalty
    if penalty is not None:
        penalty = float(transform(np.asarray(penalty, np.float32)))
    try:
        return MonteCarlo(discount, config.mc_truncation, penalty)
    except ValueError as error:
        raise UserError(f"{error}; lower agent.discount, or change data.mc_truncation") from error


def observation_statistics(dataset: Dataset, eps: float) -> tuple[Array, Array]:
    """Return mean and standard deviation + `eps` of the observations, each ``[observation_dim]``."""
    mean = dataset.observations.mean(0, dtype=np.float64)
    squares = sum(((dataset.observations[rows] - mean) ** 2).sum(0) for rows in dataset.chunks())
    return mean.astype(np.float32), (np.sqrt(squares / len(dataset)) + eps).astype(np.float32)


def check_spaces(dataset: Dataset, spaces: SpaceAdapter, env_id: str, named: bool = True) -> None:
    """Raise a `UserError` that names both shapes when data and environment do not fit.

    Args:
        dataset: the data.
        spaces: the environment's.
        env_id: what it is called.
        named: whether that is the name of a task, which the data's should be like.
    """
    data = (dataset.observations.shape[1], dataset.actions.shape[1])
    env = (spaces.observation_dim, spaces.action_dim)
    if data != env:
        hint = f"; the data names {dataset.env_id}" if dataset.env_id else ""
        raise UserError(
            f"dataset '{dataset.name}' has {data[0]} observations and {data[1]} actions, environment {env_id} has "
            f"{env[0]} and {env[1]}: they do not belong together{hint}"
        )
    if named and dataset.env_id and _base_task(dataset.env_id) != _base_task(env_id):
        warnings.warn(
            f"dataset '{dataset.name}' names {dataset.env_id} as its task, the run's is {env_id}", stacklevel=2
        )


def check_finite(dataset: Dataset) -> None:
    """Raise a `UserError` if any value is NaN or infinite, or a flag neither true nor false."""
    found = [*dataset.flaws, *not_finite(dataset)]
    if found:
        raise UserError(f"dataset '{dataset.name}': {found[0]}; `balrl data check` shows everything")


def scale_actions(dataset: Dataset, spaces: SpaceAdapter, limit: float = 1.0) -> Dataset:
    """Return the data with actions in ±`limit`, clipped with one warning that counts what was out of bounds."""
    actions = np.asarray(spaces.from_environment(dataset.actions), np.float32)
    outside = int((np.abs(actions) > 1 + 1e-6).sum())
    if outside:
        warnings.warn(
            f"{outside:,} of {actions.size:,} action values ({outside / actions.size:.1%}) of '{dataset.name}' are out "
            f"of bounds (up to {np.abs(actions).max():.3g} of the bound): clipped",
            stacklevel=2,
        )
    return replace(dataset, actions=actions.clip(-limit, limit))


def to_replay(
    dataset: Dataset,
    transform: RewardTransform,
    fields: tuple[str, ...] = (),
    device: torch.device | str = "cpu",
    monte_carlo: MonteCarlo | None = None,
    allocate: Callable[[int, int], torch.Tensor] | None = None,
    trusted_share: float = 0.5,
    make: Callable[..., ReplayBuffer] = ReplayBuffer,
) -> ReplayBuffer:
    """Copy a dataset, its actions in [-1, 1], into a replay buffer with the fields that an agent asks for.

    Args:
        monte_carlo: how the transformed rewards' returns are taken, where those are asked for.
        allocate: makes the storage; see `ReplayBuffer`.
        trusted_share: of the episodes, the best by return, whose rows are trusted.
        make: makes the buffer, from the arguments of `ReplayBuffer`.
    """
    trusted = dataset.trusted(trusted_share) if "trusted" in fields else None
    rewards = transform(dataset.rewards)
    dataset = replace(dataset, rewards=rewards)
    extra: dict[str, Array] = {}
    if "mc_returns" in fields:
        extra["mc_returns"] = dataset.mc_returns(monte_carlo or MonteCarlo(0.99))
    if "next_actions" in fields:
        extra["next_actions"] = dataset.next_actions()
    if trusted is not None:
        extra["trusted"] = trusted
    if "returns_to_go" in fields:
        extra["returns_to_go"] = dataset.returns_to_go()
    if "timesteps" in fields:
        extra["timesteps"] = dataset.timesteps()
    if "logged" in fields:
        extra["logged"] = np.ones(len(dataset), np.float32)
    if "preferences" in fields:
        extra["preferences"] = behaviour_preferences(dataset)
    widths = dataset.observations.shape[1], dataset.actions.shape[1]
    several = {"reward_dim": dataset.reward_dim} if dataset.reward_dim > 1 else {}
    buffer = make(len(dataset), *widths, device, fields, allocate, **several)
    columns = {name: getattr(dataset, name) for name in TRANSITION} | extra
    for rows in dataset.chunks():
        batch = Batch(**{name: torch.from_numpy(np.array(column[rows])) for name, column in columns.items()})
        buffer.add(batch, torch.from_numpy(dataset.ends[rows]))
    return buffer


def _base_task(env_id: str) -> str:
    """Return a task's name without version and reward variant: AdroitHandDoorSparse-v1 is AdroitHandDoor."""
    return task_name(env_id).removesuffix("Sparse")
