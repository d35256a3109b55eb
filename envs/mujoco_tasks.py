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
        located: whether features and memory need the places of bodies, which are then computed at an episode's
            beginning, too; without, both are zero there.
        newton: replace the model's solver, which MuJoCo Warp has not.
    """

    noise: float
    normal_velocities: bool = False
    roaming: int = 0
    contact_forces: bool = False
    located: bool = False
    newton: bool = False

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> tuple[Tensor, Tensor]:
        """Return first positions and velocities ``[N, …]``, for the model's own; `uniform` draws from [-1, 1]."""
        draw = normal if self.normal_velocities else uniform
        return qpos + self.noise * uniform(qpos.shape[-1]), qvel + self.noise * draw(qvel.shape[-1])

    def memory(self, views: Views) -> Tensor:
        """Return what of this step the next one is measured from, ``[N, k]``, less the roaming positions' move."""
        return views["qpos"][:, :0]

    @abstractmethod
    def features(self, views: Views) -> Tensor:
        """Return what is observed beside positions and velocities, ``[N, k]``."""

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


@dataclass(frozen=True)
class Reacher(Task):
    """Reach a target with a fingertip: ``r = −|tip − target| − |a|²``. Never terminates."""

    noise: float = 0.1
    located: bool = True
    tip: int = 3
    target: int = 4

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> tuple[Tensor, Tensor]:
        first, speeds = qpos + self.noise * uniform(4), qvel + 0.005 * uniform(4)
        radius, angle = (0.2 * ((uniform(1) + 1) / 2).sqrt(), torch.pi * uniform(1))  # uniform in a disk
        first[:, 2:] = torch.cat([radius * angle.cos(), radius * angle.sin()], -1)
        speeds[:, 2:] = 0
        return first, speeds

    def features(self, views: Views) -> Tensor:
        return views["xpos"][:, self.tip] - views["xpos"][:, self.target]

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        joints = qpos[:, :2]
        return torch.cat([joints.cos(), joints.sin(), qpos[:, 2:], qvel[:, :2], features[:, :2]], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        rewards = -self.features(views).norm(dim=-1) - actions.square().sum(-1)
        return Outcome(rewards, torch.zeros_like(rewards, dtype=torch.bool))


@dataclass(frozen=True)
class Pusher(Task):
    """Push a cylinder to a goal: ``r = −0.5 |cylinder − tip| − |cylinder − goal| − 0.1 |a|²``. Never terminates."""

    noise: float = 0.005
    located: bool = True
    tip: int = 10
    cylinder: int = 11
    goal: int = 12

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> tuple[Tensor, Tensor]:
        speeds = qvel + self.noise * uniform(11)
        speeds[:, -4:] = 0
        tries = torch.stack([0.15 * uniform(32) - 0.15, 0.2 * uniform(32)], -1)  # x in [-0.3, 0], y in [-0.2, 0.2]
        first_far = (tries.norm(dim=-1) > 0.17).to(torch.int8).argmax(-1)
        place = tries.take_along_dim(first_far[:, None, None], 1).squeeze(1)
        first = qpos.expand(len(place), -1).clone()
        first[:, -4:] = torch.cat([place, torch.zeros_like(place)], -1)
        return first, speeds

    def features(self, views: Views) -> Tensor:
        return torch.cat([views["xpos"][:, body] for body in (self.tip, self.cylinder, self.goal)], -1)

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        return torch.cat([qpos[:, :7], qvel[:, :7], features], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        tip, cylinder, goal = self.features(views).unflatten(-1, (3, 3)).unbind(1)
        far, away = (cylinder - tip).norm(dim=-1), (cylinder - goal).norm(dim=-1)
        rewards = -0.5 * far - away - 0.1 * actions.square().sum(-1)
        return Outcome(rewards, torch.zeros_like(rewards, dtype=torch.bool))


@dataclass(frozen=True)
class Humanoid(Task):
    """Run forward on two legs: ``r = 1.25 x-velocity of the centre of mass + 5 − 0.1 |a|² − min(5e-7 |forces|², 10)``.

    Ends where the torso's height leaves (1, 2). Gymnasium's model asks for the PGS solver, which MuJoCo Warp has not:
    here it is Newton's.
    """

    noise: float = 0.01
    roaming: int = 2
    contact_forces: bool = True
    located: bool = True
    newton: bool = True

    def memory(self, views: Views) -> Tensor:
        return self._centre(views) - views["qpos"][:, :1]

    def features(self, views: Views) -> Tensor:
        parts = (views["cinert"][:, 1:], views["cvel"][:, 1:], views["qfrc_actuator"][:, 6:], views["cfrc_ext"][:, 1:])
        return torch.cat([part.flatten(1) for part in parts], -1)

    def observe(self, qpos: Tensor, qvel: Tensor, features: Tensor) -> Tensor:
        return torch.cat([qpos[:, 2:], qvel, features], -1)

    def outcome(self, start: Tensor, views: Views, actions: Tensor, dt: float) -> Outcome:
        height = views["qpos"][:, 2]
        healthy = (height > 1.0) & (height < 2.0)
        speed = (self._centre(views) - start)[:, 0] / dt
        forces = (5e-7 * views["cfrc_ext"].square().sum((-2, -1))).clamp(max=10.0)
        return Outcome(1.25 * speed + 5.0 * healthy - 0.1 * actions.square().sum(-1) - forces, ~healthy)

    @staticmethod
    def _centre(views: Views) -> Tensor:
        """Return x of the centre of mass ``[N, 1]``; ``cinert`` ends with each body's mass."""
        mass = views["cinert"][:, :, 9]
        return (mass * views["xipos"][:, :, 0]).sum(-1, keepdim=True) / mass.sum(-1, keepdim=True)


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
    "Reacher-v5": Reacher(),
    "Pusher-v5": Pusher(),
    "Humanoid-v5": Humanoid(),
}
"""By Gymnasium's id."""
