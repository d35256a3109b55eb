"""Gymnasium's tasks of balancing poles on a cart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from balrl.envs.mujoco.task import Outcome, State, Task, Views


@dataclass(frozen=True)
class InvertedPendulum(Task):
    """Balance a pole on a cart: 1 per step, until its angle leaves [-0.2, 0.2]."""

    noise: float = 0.01

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.qpos, state.qvel], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
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

    def observe(self, state: State) -> Tensor:
        cart, angles = state.qpos[:, :1], state.qpos[:, 1:]
        return torch.cat([cart, angles.sin(), angles.cos(), state.qvel.clamp(-10, 10), state.features], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        x, _, y = views["site_xpos"][:, 0].unbind(-1)
        _, v1, v2 = views["qvel"].unbind(-1)
        terminated = y <= 1
        penalties = 0.01 * x.square() + (y - 2).square() + 1e-3 * v1.square() + 5e-3 * v2.square()
        return Outcome(10.0 * ~terminated - penalties, terminated)
