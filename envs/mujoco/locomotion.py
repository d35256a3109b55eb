"""Gymnasium's tasks of running forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from balrl.envs.mujoco.task import Outcome, State, Task, Views


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

    def observe(self, state: State) -> Tensor:
        qvel = state.qvel
        if self.velocity_limit is not None:
            qvel = qvel.clamp(-self.velocity_limit, self.velocity_limit)
        return torch.cat([state.qpos[:, self.roaming :], qvel], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
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

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.qpos[:, 2:], state.qvel, state.features[:, 6:]], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        height = views["qpos"][:, 2]
        healthy = (height >= 0.2) & (height <= 1.0)
        speed = (views["xpos"][:, 1, 0] - before.memory[:, 0]) / dt
        costs = 0.5 * actions.square().sum(-1) + 5e-4 * self.features(views).square().sum(-1)
        return Outcome(speed + healthy.to(speed) - costs, ~healthy)


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

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.qpos[:, 2:], state.qvel, state.features], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        height = views["qpos"][:, 2]
        healthy = (height > 1.0) & (height < 2.0)
        speed = (self._centre(views) - before.memory)[:, 0] / dt
        forces = (5e-7 * views["cfrc_ext"].square().sum((-2, -1))).clamp(max=10.0)
        return Outcome(1.25 * speed + 5.0 * healthy - 0.1 * actions.square().sum(-1) - forces, ~healthy)

    @staticmethod
    def _centre(views: Views) -> Tensor:
        """Return x of the centre of mass ``[N, 1]``; ``cinert`` ends with each body's mass."""
        mass = views["cinert"][:, :, 9]
        return (mass * views["xipos"][:, :, 0]).sum(-1, keepdim=True) / mass.sum(-1, keepdim=True)
