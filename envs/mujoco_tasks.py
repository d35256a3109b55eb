"""Gymnasium's MuJoCo tasks as functions of the simulator's state: what is observed, rewarded and when it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Views = Mapping[str, Tensor]
"""The simulator's quantities ``[N, …]``, named as in `mujoco.MjData`."""
Draw = Callable[[int], Tensor]
"""Gives random numbers ``[N, width]``."""


class Outcome(NamedTuple):
    """What a step came to: rewards ``[N]``, terminated ``[N]`` bool."""

    rewards: Tensor
    terminated: Tensor


@dataclass(frozen=True)
class Task(ABC):
    """A Gymnasium MuJoCo task, version 5, with its default settings.

    Attributes:
        noise: scale of the positions' and velocities' uniform noise at the beginning of an episode.
        normal_velocities: draw the velocities' noise from a normal distribution.
        roaming: how many leading positions nothing depends on: they are not observed, and the world is moved back to
            their origin after every step, since float32 would lose the speed far from it.
        contact_forces: whether ``cfrc_ext`` is needed.
    """

    noise: float
    normal_velocities: bool = False
    roaming: int = 0
    contact_forces: bool = False

    def reset_noise(self, positions: int, velocities: int, uniform: Draw, normal: Draw) -> tuple[Tensor, Tensor]:
        """Return what is added to the initial positions and velocities; `uniform` draws from [-1, 1]."""
        draw = normal if self.normal_velocities else uniform
        return self.noise * uniform(positions), self.noise * draw(velocities)

    def memory(self, views: Views) -> Tensor:
        """Return what of this step the next one is measured from, ``[N, k]``, less the roaming positions' move."""
        return views["qpos"][:, :0]

    def initial_memory(self, qpos: Tensor) -> Tensor:
        """Return `memory` at the beginning of an episode."""
        return qpos[:, :0]

    @abstractmethod
    def features(self, views: Views) -> Tensor:
        """Return what is observed beside positions and velocities, ``[N, k]``; zero at an episode's beginning."""

    @abstractmethod
    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        """Return observations ``[N, observation_dim]``."""

    @abstractmethod
    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        """Return rewards and terminations, for the `memory` of the step before."""


@dataclass(frozen=True)
class Runner(Task):
    """Run forward: ``r = x-velocity + healthy reward − control cost · |a|²``.

    Attributes:
        control_cost: weight of the squared actions.
        healthy_reward: per step within the ranges; outside the episode ends.
        height, angle: open intervals of the second and third position; None: never unhealthy.
        state_limit: of every position and velocity from the third on.
        velocity_limit: observed velocities are clipped to it.
    """

    control_cost: float = 0.0
    healthy_reward: float = 0.0
    height: tuple[float, float] | None = None
    angle: tuple[float, float] | None = None
    state_limit: float | None = None
    velocity_limit: float | None = None
    roaming: int = 1

    def features(self, views: Views) -> Tensor:
        return views["qpos"][:, :0]

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        if self.velocity_limit is not None:
            qvel = qvel.clamp(-self.velocity_limit, self.velocity_limit)
        return torch.cat([qpos[:, self.roaming :], qvel], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        qpos, qvel = views["qpos"], views["qvel"]
        healthy = torch.ones_like(qpos[:, 0], dtype=torch.bool)
        for index, interval in ((1, self.height), (2, self.angle)):
            if interval is not None:
                healthy &= (qpos[:, index] > interval[0]) & (qpos[:, index] < interval[1])
        if self.state_limit is not None:
            healthy &= (torch.cat([qpos[:, 2:], qvel], -1).abs() < self.state_limit).all(-1)
        speed = qpos[:, 0] / dt  # the step began at 0
        rewards = speed + self.healthy_reward * healthy - self.control_cost * actions.square().sum(-1)
        return Outcome(rewards, ~healthy)


@dataclass(frozen=True)
class Ant(Task):
    """Run forward on four legs; observes and pays for the external forces on every body, each clipped to [-1, 1].

    ``r = x-velocity of the torso + 1 − 0.5 |a|² − 5e-4 |forces|²``; ends where the torso's height leaves [0.2, 1].
    """

    noise: float = 0.1
    normal_velocities: bool = True
    roaming: int = 2
    contact_forces: bool = True

    def memory(self, views: Views) -> Tensor:
        # Gymnasium measures the torso's place as the simulator computed it last, before the step's final integration.
        return views["xpos"][:, 1, :1] - views["qpos"][:, :1]

    def initial_memory(self, qpos: Tensor) -> Tensor:
        return torch.zeros_like(qpos[:, :1])

    def features(self, views: Views) -> Tensor:
        return views["cfrc_ext"].flatten(1).clamp(-1, 1)

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        return torch.cat([qpos[:, 2:], qvel, features[:, 6:]], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        height = views["qpos"][:, 2]
        healthy = (height >= 0.2) & (height <= 1.0)
        speed = (views["xpos"][:, 1, 0] - start[:, 0]) / dt
        costs = 0.5 * actions.square().sum(-1) + 5e-4 * self.features(views).square().sum(-1)
        return Outcome(speed + healthy.to(speed) - costs, ~healthy)


@dataclass(frozen=True)
class InvertedPendulum(Task):
    """Balance a pole on a cart: 1 per step, until its angle leaves [-0.2, 0.2]."""

    noise: float = 0.01

    def features(self, views: Views) -> Tensor:
        return views["qpos"][:, :0]

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        return torch.cat([qpos, qvel], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        terminated = views["qpos"][:, 1].abs() > 0.2
        return Outcome((~terminated).to(actions), terminated)


@dataclass(frozen=True)
class InvertedDoublePendulum(Task):
    """Balance two poles on a cart: ``r = 10 − 0.01 x² − (y − 2)² − 1e-3 v₁² − 5e-3 v₂²`` for the tip (x, y).

    Ends, without the 10, where the tip's height falls to 1. Observes the constraint force on the cart.
    """

    noise: float = 0.1
    normal_velocities: bool = True

    def features(self, views: Views) -> Tensor:
        return views["qfrc_constraint"][:, :1].clamp(-10, 10)

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        angles = qpos[:, 1:]
        return torch.cat([qpos[:, :1], angles.sin(), angles.cos(), qvel.clamp(-10, 10), features], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        x, _, y = views["site_xpos"][:, 0].unbind(-1)
        _, v1, v2 = views["qvel"].unbind(-1)
        terminated = y <= 1
        penalties = 0.01 * x.square() + (y - 2).square() + 1e-3 * v1.square() + 5e-3 * v2.square()
        return Outcome(10.0 * ~terminated - penalties, terminated)


TASKS: dict[str, Task] = {
    "Hopper-v5": Runner(
        noise=5e-3,
        control_cost=1e-3,
        healthy_reward=1.0,
        height=(0.7, float("inf")),
        angle=(-0.2, 0.2),
        state_limit=100.0,
        velocity_limit=10.0,
    ),
    "HalfCheetah-v5": Runner(noise=0.1, normal_velocities=True, control_cost=0.1),
    "Walker2d-v5": Runner(
        noise=5e-3, control_cost=1e-3, healthy_reward=1.0, height=(0.8, 2.0), angle=(-1.0, 1.0), velocity_limit=10.0
    ),
    "Ant-v5": Ant(),
    "Swimmer-v5": Runner(noise=0.1, control_cost=1e-4, roaming=2),
    "InvertedPendulum-v5": InvertedPendulum(),
    "InvertedDoublePendulum-v5": InvertedDoublePendulum(),
}
"""By Gymnasium's id."""
