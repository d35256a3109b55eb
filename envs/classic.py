"""Gymnasium's classic control tasks with continuous actions, in torch: thousands of worlds at once on any device."""

from __future__ import annotations

import math
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.sketch import Sketch
from balrl.envs.torch_env import Frame, TorchVectorEnv


class ClassicVectorEnv(TorchVectorEnv):
    """A classic task: a state of a few numbers, uniform first states, one force.

    Args:
        num_envs: worlds.
        device: where everything is computed.
        dtype: of states, observations and rewards.
        max_episode_steps: default: the task's.
    """

    steps: ClassVar[int]
    observation_limits: ClassVar[tuple[list[float], list[float]]]
    force: ClassVar[float] = 1.0
    first_states: ClassVar[tuple[list[float], list[float]]]
    """Lowest and highest."""

    def __init__(
        self,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        low, high = (np.array(limits, np.float32) for limits in self.observation_limits)
        super().__init__(
            num_envs,
            gym.spaces.Box(low, high, dtype=np.float32),
            gym.spaces.Box(-self.force, self.force, (1,), np.float32),
            self.steps if max_episode_steps is None else max_episode_steps,
            device,
            dtype,
            render_mode,
        )
        self._first = [torch.tensor(x, device=self.device, dtype=dtype) for x in self.first_states]

    def initial_states(self, count: int) -> Tensor:
        low, high = self._first
        draw = torch.rand(count, len(low), generator=self.generator, device=self.device, dtype=self.dtype)
        return low + (high - low) * draw


class PendulumVectorEnv(ClassicVectorEnv):
    """``Pendulum-v1``: swing a pole up with a torque too weak to do it at once.

    State: angle θ (0 is up) and its speed. ``θ̇ ← clip(θ̇ + (15 sin θ + 3 u) · 0.05, ±8)``, ``θ ← θ + 0.05 θ̇``.

    - Observation ``[3]``: cos θ, sin θ, θ̇.
    - Action ``[1]`` in [-2, 2]: torque u.
    - Reward: ``−(θ² + 0.1 θ̇² + 0.001 u²)``, θ in [-π, π), of the state before the step. Never terminates; 200 steps.
    """

    steps = 200
    observation_limits = ([-1.0, -1.0, -8.0], [1.0, 1.0, 8.0])
    force = 2.0
    first_states = ([-math.pi, -1.0], [math.pi, 1.0])

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        angle, speed = states.unbind(-1)
        torque = actions[:, 0]
        off = (angle + math.pi) % (2 * math.pi) - math.pi
        rewards = -(off.square() + 0.1 * speed.square() + 0.001 * torque.square())
        speed = (speed + (15 * angle.sin() + 3 * torque) * 0.05).clamp(-8, 8)
        states = torch.stack([angle + 0.05 * speed, speed], -1)
        return states, rewards, torch.zeros_like(rewards, dtype=torch.bool), {}

    def observe(self, states: Tensor) -> Tensor:
        angle, speed = states.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def states_of(self, observations: Tensor) -> Tensor:
        cos, sin, speed = observations.to(self.device, self.dtype).unbind(-1)
        return torch.stack([torch.atan2(sin, cos), speed], -1)

    def draw(self, state: Tensor) -> Frame:
        angle = state[0].item()
        tip = -0.8 * math.sin(angle), 0.8 * math.cos(angle)
        return Sketch().line([(0, 0), tip], "indianred", 0.16).disk((0, 0), 0.03, "black").array()


class MountainCarVectorEnv(ClassicVectorEnv):
    """``MountainCarContinuous-v0``: rock a weak car out of a valley.

    State: position x and velocity. ``v ← clip(v + 0.0015 a − 0.0025 cos 3x, ±0.07)``, ``x ← clip(x + v, −1.2, 0.6)``;
    the left end stops the car.

    - Observation ``[2]``: x, v. Action ``[1]`` in [-1, 1]: force a.
    - Reward: ``−0.1 a²``, and 100 on reaching x ≥ 0.45, where the episode terminates; 999 steps.
    """

    steps = 999
    observation_limits = ([-1.2, -0.07], [0.6, 0.07])
    first_states = ([-0.6, 0.0], [-0.4, 0.0])

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        position, velocity = states.unbind(-1)
        force = actions[:, 0]
        velocity = (velocity + 0.0015 * force - 0.0025 * (3 * position).cos()).clamp(-0.07, 0.07)
        position = (position + velocity).clamp(-1.2, 0.6)
        velocity = torch.where((position == -1.2) & (velocity < 0), 0.0, velocity)
        reached = (position >= 0.45) & (velocity >= 0)
        rewards = 100.0 * reached - 0.1 * force.square()
        return torch.stack([position, velocity], -1), rewards, reached, {"success": reached}

    def observe(self, states: Tensor) -> Tensor:
        return states

    def states_of(self, observations: Tensor) -> Tensor:
        return observations.to(self.device, self.dtype)

    def draw(self, state: Tensor) -> Frame:
        def on_hill(position: float) -> tuple[float, float]:
            return (position + 0.3) / 0.9, math.sin(3 * position) / 2

        hill = [on_hill(-1.2 + 0.02 * i) for i in range(91)]
        x, y = on_hill(state[0].item())
        flag_x, flag_y = on_hill(0.45)
        pole = [(flag_x, flag_y), (flag_x, flag_y + 0.3)]
        sketch = Sketch().line(hill, "dimgrey", 0.02).line(pole, "seagreen", 0.03)
        return sketch.disk((x, y + 0.07), 0.07, "indianred").array()


class CartPoleSwingUpVectorEnv(ClassicVectorEnv):
    """Swing a hanging pole up and keep it there, on a cart with walls.

    The dynamics are those of ``CartPole-v1`` (Barto, Sutton & Anderson, 1983; Euler steps of 0.02 s) with a force of
    10 a newtons. State: x, ẋ, θ (0 is up), θ̇.

    - Observation ``[5]``: x, ẋ, cos θ, sin θ, θ̇. Action ``[1]`` in [-1, 1].
    - Reward: ``(1 + cos θ) / 2``, of the state after the step. Terminates where |x| > 2.4; 500 steps.
    """

    steps = 500
    observation_limits = ([-4.8, -np.inf, -1.0, -1.0, -np.inf], [4.8, np.inf, 1.0, 1.0, np.inf])
    first_states = ([-0.05, -0.05, math.pi - 0.05, -0.05], [0.05, 0.05, math.pi + 0.05, 0.05])

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        _, x_speed, angle, angle_speed = states.unbind(-1)
        pole, total, half_length = 0.1, 1.1, 0.5
        cos, sin = angle.cos(), angle.sin()
        push = (10 * actions[:, 0] + pole * half_length * angle_speed.square() * sin) / total
        angle_acceleration = (9.8 * sin - cos * push) / (half_length * (4 / 3 - pole * cos.square() / total))
        x_acceleration = push - pole * half_length * angle_acceleration * cos / total
        rates = torch.stack([x_speed, x_acceleration, angle_speed, angle_acceleration], -1)
        states = states + 0.02 * rates
        return states, (1 + states[:, 2].cos()) / 2, states[:, 0].abs() > 2.4, {}

    def observe(self, states: Tensor) -> Tensor:
        x, x_speed, angle, angle_speed = states.unbind(-1)
        return torch.stack([x, x_speed, angle.cos(), angle.sin(), angle_speed], -1)

    def states_of(self, observations: Tensor) -> Tensor:
        x, x_speed, cos, sin, angle_speed = observations.to(self.device, self.dtype).unbind(-1)
        return torch.stack([x, x_speed, torch.atan2(sin, cos), angle_speed], -1)

    def draw(self, state: Tensor) -> Frame:
        x, angle = state[0].item() / 2.6, state[2].item()
        tip = x + 0.5 * math.sin(angle), 0.5 * math.cos(angle)
        rail = [(-2.4 / 2.6, 0.0), (2.4 / 2.6, 0.0)]
        sketch = Sketch().line(rail, "silver", 0.02).box((x, 0), 0.3, 0.15, "dimgrey")
        return sketch.line([(x, 0), tip], "indianred", 0.06).array()


make_pendulum = PendulumVectorEnv.single
make_mountain_car = MountainCarVectorEnv.single
make_cart_pole_swing_up = CartPoleSwingUpVectorEnv.single
