"""A contextual task of one step whose true reward invites over-optimisation of a learned one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.sketch import Sketch
from balrl.envs.torch_env import Frame, SingleTorchEnv, TorchVectorEnv

HIDDEN = 256
WORLD = 7
"""The seed of the fixed network."""
REFERENCE_STD = 0.3
"""Rewards have mean 0 and deviation 1 under actions N(0, this²), clipped to the bounds."""
REFERENCE_ROWS = 100_000


class ContextualVectorEnv(TorchVectorEnv):
    """See a context, act once, get ``r(c, a)``; the episode is over.

    ``r = (f(c, a) − depth · (1 − exp(−(max(0, ‖a‖ − rim) / width)²)) − mean) / std``, f a fixed random network of two
    hidden layers of 256 units (sines, then tanh), contexts uniform in [-1, 1]. Around small actions f can be learned
    from a few hundred comparisons, and there it goes on rising outwards; beyond the rim, which few small actions reach,
    reward is lost. A model that saw small actions only extrapolates over the rim, and a policy that believes it goes
    there. Built for `balrl reward study`; which dimensions and depth show that was found with single reward models.

    Args:
        num_envs: worlds.
        device: where everything is computed.
        dtype: of contexts and rewards.
        context_dim, action_dim: widths.
        rim, depth, width: as above, the depth in units of f.
    """

    def __init__(
        self,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        context_dim: int = 4,
        action_dim: int = 6,
        rim: float = 0.9,
        depth: float = 2.0,
        width: float = 0.5,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs,
            gym.spaces.Box(-1, 1, (context_dim,), np.float32),
            gym.spaces.Box(-1, 1, (action_dim,), np.float32),
            1,
            device,
            dtype,
            render_mode,
        )
        self.context_dim, self.rim, self.depth, self.width = context_dim, rim, depth, width
        network, self._mean, self._std = _world(context_dim, action_dim, rim, depth, width)
        self._network = [x.to(self.device, dtype) for x in network]

    def initial_states(self, count: int) -> Tensor:
        return (
            2 * torch.rand(count, self.context_dim, generator=self.generator, device=self.device, dtype=self.dtype) - 1
        )

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        over = torch.ones(len(states), dtype=torch.bool, device=self.device)
        return states, self.reward(states, actions), over, {}

    def reward(self, contexts: Tensor, actions: Tensor) -> Tensor:
        """Return ``r(c, a)`` ``[…]`` of contexts ``[…, context_dim]`` and actions ``[…, action_dim]``."""
        return (self._raw(contexts, actions) - self._mean) / self._std

    def observe(self, states: Tensor) -> Tensor:
        return states.clone()

    def draw(self, state: Tensor) -> Frame:
        sheet, width = Sketch(), 2 / len(state)
        for i, value in enumerate(state.tolist()):
            sheet.box((-1 + (i + 0.5) * width, value / 2), 0.8 * width, abs(value), "steelblue")
        return sheet.line([(-1, 0), (1, 0)], "black", 0.01).array()

    def _raw(self, contexts: Tensor, actions: Tensor) -> Tensor:
        return _raw(self._network, contexts, actions, self.rim, self.depth, self.width)


def _raw(
    network: Sequence[Tensor], contexts: Tensor, actions: Tensor, rim: float, depth: float, width: float
) -> Tensor:
    first, phases, second, shifts, last = network
    hidden = torch.sin(torch.cat([contexts, actions], -1) @ first + phases)
    beyond = (actions.norm(dim=-1) - rim).clamp(min=0) / width
    return torch.tanh(hidden @ second + shifts) @ last - depth * (1 - torch.exp(-beyond.square()))


@lru_cache
def _world(
    context_dim: int, action_dim: int, rim: float, depth: float, width: float
) -> tuple[tuple[Tensor, ...], float, float]:
    """Return the fixed network, and mean and deviation of rewards under the reference policy."""
    world, inputs = torch.Generator().manual_seed(WORLD), context_dim + action_dim
    network = (
        1.5 * torch.randn(inputs, HIDDEN, generator=world) / math.sqrt(inputs),
        2 * math.pi * torch.rand(HIDDEN, generator=world),
        1.5 * torch.randn(HIDDEN, HIDDEN, generator=world) / math.sqrt(HIDDEN),
        0.5 * torch.randn(HIDDEN, generator=world),
        torch.randn(HIDDEN, generator=world) / math.sqrt(HIDDEN),
    )
    contexts = 2 * torch.rand(REFERENCE_ROWS, context_dim, generator=world) - 1
    actions = (REFERENCE_STD * torch.randn(REFERENCE_ROWS, action_dim, generator=world)).clamp(-1, 1)
    raw = _raw(network, contexts, actions, rim, depth, width)
    return network, float(raw.mean()), float(raw.std())


def make_contextual(**kwargs: object) -> SingleTorchEnv:
    """Return one world as an ordinary environment."""
    return ContextualVectorEnv.single(**kwargs)  # type: ignore[arg-type]
