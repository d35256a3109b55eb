"""Gymnasium's tasks of reaching and pushing with an arm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from balrl.envs.mujoco.task import Beginning, Draw, Outcome, State, Task, Views, endless


@dataclass(frozen=True)
class Reacher(Task):
    """Reach a target with a fingertip: ``r = −|tip − target| − |a|²``. Never terminates."""

    noise: float = 0.1
    located: bool = True
    tip: int = 3
    target: int = 4

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> Beginning:
        first, speeds = qpos + self.noise * uniform(4), qvel + 0.005 * uniform(4)
        radius, angle = (0.2 * ((uniform(1) + 1) / 2).sqrt(), torch.pi * uniform(1))  # uniform in a disk
        first[:, 2:] = torch.cat([radius * angle.cos(), radius * angle.sin()], -1)
        speeds[:, 2:] = 0
        return Beginning(first, speeds)

    def features(self, views: Views) -> Tensor:
        return views["xpos"][:, self.tip] - views["xpos"][:, self.target]

    def observe(self, state: State) -> Tensor:
        joints, target = state.qpos[:, :2], state.qpos[:, 2:]
        return torch.cat([joints.cos(), joints.sin(), target, state.qvel[:, :2], state.features[:, :2]], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        rewards = -self.features(views).norm(dim=-1) - actions.square().sum(-1)
        return endless(rewards)


@dataclass(frozen=True)
class Pusher(Task):
    """Push a cylinder to a goal: ``r = −0.5 |cylinder − tip| − |cylinder − goal| − 0.1 |a|²``. Never terminates."""

    noise: float = 0.005
    located: bool = True
    tip: int = 10
    cylinder: int = 11
    goal: int = 12

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> Beginning:
        speeds = qvel + self.noise * uniform(11)
        speeds[:, -4:] = 0
        tries = torch.stack([0.15 * uniform(32) - 0.15, 0.2 * uniform(32)], -1)  # x in [-0.3, 0], y in [-0.2, 0.2]
        first_far = (tries.norm(dim=-1) > 0.17).to(torch.int8).argmax(-1)
        place = tries.take_along_dim(first_far[:, None, None], 1).squeeze(1)
        first = qpos.expand(len(place), -1).clone()
        first[:, -4:] = torch.cat([place, torch.zeros_like(place)], -1)
        return Beginning(first, speeds)

    def features(self, views: Views) -> Tensor:
        return torch.cat([views["xpos"][:, body] for body in (self.tip, self.cylinder, self.goal)], -1)

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.qpos[:, :7], state.qvel[:, :7], state.features], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        tip, cylinder, goal = self.features(views).unflatten(-1, (3, 3)).unbind(1)
        far, away = (cylinder - tip).norm(dim=-1), (cylinder - goal).norm(dim=-1)
        rewards = -0.5 * far - away - 0.1 * actions.square().sum(-1)
        return endless(rewards)
