"""A MuJoCo task as functions of the simulator's state: how it begins, what is observed, rewarded and when it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

Views = Mapping[str, Tensor]
"""The simulator's quantities ``[N, …]``, named as in `mujoco.MjData`."""
Draw = Callable[[int], Tensor]
"""Gives random numbers ``[N, width]``."""


class State(NamedTuple):
    """Worlds between two steps, a row of ``[N, …]`` each.

    Attributes:
        qpos, qvel, warm_start: the simulator's.
        memory: what the next step is measured from, beside positions.
        features: what the last step left to observe.
        travelled: the roaming positions' way since the episode began.
        goal: what the episode drew for itself at its beginning.
    """

    qpos: Tensor
    qvel: Tensor
    warm_start: Tensor
    memory: Tensor
    features: Tensor
    travelled: Tensor
    goal: Tensor


class Beginning(NamedTuple):
    """First positions and velocities, and the episodes' goals where they have any, ``[N, …]``."""

    qpos: Tensor
    qvel: Tensor
    goal: Tensor | None = None


class Outcome(NamedTuple):
    """What a step came to: rewards ``[N]``, terminated ``[N]`` bool."""

    rewards: Tensor
    terminated: Tensor


def endless(rewards: Tensor) -> Outcome:
    """Return the outcome of a task that never terminates."""
    return Outcome(rewards, torch.zeros_like(rewards, dtype=torch.bool))


@dataclass(frozen=True)
class Task(ABC):
    """A MuJoCo task with its original's default settings.

    Attributes:
        noise: scale of the positions' and velocities' uniform noise at the beginning of an episode.
        normal_velocities: draw the velocities' noise from a normal distribution.
        roaming: how many leading positions nothing depends on: they are not observed, and the world is moved back to
            their origin after every step, since float32 would lose the speed far from it.
        contact_forces: whether ``cfrc_ext`` is needed.
        located: whether features and memory need the places of bodies, which are then computed at an episode's
            beginning, too; without, both are zero there.
        newton: replace the model's solver, which MuJoCo Warp has not.
        speed_limit: velocities are clipped to it before every step.
    """

    noise: float
    normal_velocities: bool = False
    roaming: int = 0
    contact_forces: bool = False
    located: bool = False
    newton: bool = False
    speed_limit: float | None = None

    def bound(self, original: Any, device: torch.device) -> Self:
        """Return the task with what only the original environment knows."""
        return self

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> Beginning:
        """Return how episodes begin, for the model's own positions and velocities; `uniform` draws from [-1, 1]."""
        draw = normal if self.normal_velocities else uniform
        return Beginning(qpos + self.noise * uniform(qpos.shape[-1]), qvel + self.noise * draw(qvel.shape[-1]))

    def memory(self, views: Views) -> Tensor:
        """Return what of this step the next one is measured from, ``[N, k]``, less the roaming positions' move."""
        return views["qpos"][:, :0]

    def features(self, views: Views) -> Tensor:
        """Return what is observed beside positions and velocities, ``[N, k]``."""
        return views["qpos"][:, :0]

    @abstractmethod
    def observe(self, state: State) -> Tensor:
        """Return observations ``[N, observation_dim]``."""

    @abstractmethod
    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        """Return rewards and terminations of the step from `before` to what `views` show."""

    def success(self, before: State, views: Views) -> Tensor | None:
        """Return whether the step succeeded, ``[N]`` bool; None where the task does not say."""
        return None
