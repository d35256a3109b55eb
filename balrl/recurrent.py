"""A policy and critics that each remember the episode with a recurrent unit of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from balrl.gru import GRU
from balrl.networks import QEnsemble
from balrl.policies import TanhGaussianPolicy


class StateMemory(nn.Module):
    """What is known of a state: h of everything so far, and the observation itself.

    The unit sees ``x = [o, a before, r before]``; what comes out is ``[h, o]``.

    Args:
        observation_dim: width of o.
        seen_dim: width of x.
        width: of h.
    """

    def __init__(self, observation_dim: int, seen_dim: int, width: int) -> None:
        super().__init__()
        self.unit, self.observation_dim = GRU(seen_dim, width), observation_dim

    def forward(self, seen: Tensor, cut: int = 0) -> Tensor:
        """Return states ``[B, L, width + observation_dim]`` of windows x ``[B, L, ·]``; for `cut` see `GRU`."""
        return self._beside(self.unit(seen, cut), seen)

    def step(self, seen: Tensor, h: Tensor) -> Tensor:
        """Return states ``[B, ·]`` after one step of x ``[B, ·]``."""
        return self._beside(self.unit.step(seen, h), seen)

    def after(self, states: Tensor, seen: Tensor) -> Tensor:
        """Return states ``[B, L, ·]`` that are one step of x ``[B, L, ·]`` after other states."""
        return self.step(seen.flatten(0, 1), self.hidden(states.flatten(0, 1))).unflatten(0, states.shape[:2])

    def hidden(self, states: Tensor) -> Tensor:
        """Return the h of states."""
        return states[..., : self.unit.width]

    def blank(self, like: Tensor) -> Tensor:
        """Return the h ``[B, width]`` of episodes that begin, for observations ``[B, ·]``."""
        return like.new_zeros(len(like), self.unit.width)

    def _beside(self, h: Tensor, seen: Tensor) -> Tensor:
        return torch.cat([h, seen[..., : self.observation_dim]], -1)


class RecurrentPolicy(TanhGaussianPolicy):
    """A squashed Gaussian policy of states that its own memory makes."""

    kind = "recurrent"

    def __init__(
        self, memory: StateMemory, input_dim: int, action_dim: int, hidden: Sequence[int], **settings: Any
    ) -> None:
        super().__init__(input_dim, action_dim, hidden, **settings)
        self.memory = memory


class RecurrentQEnsemble(QEnsemble):
    """Critics of states that one memory makes for all members."""

    def __init__(
        self,
        memory: StateMemory,
        action_dim: int,
        hidden: Sequence[int],
        members: int = 2,
        layer_norm: bool = False,
        last_gain: float = 1.0,
        activation: str = "relu",
    ) -> None:
        state_dim = memory.unit.width + memory.observation_dim
        super().__init__(state_dim, action_dim, hidden, members, layer_norm, last_gain, activation)
        self.memory = memory
