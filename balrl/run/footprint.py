"""How much memory a run's parts will take, from their configuration alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from balrl.config import AgentConfig

COPIES = 4
"""Of every parameter: itself, its target or gradient, and two moments."""


def planned_bytes(config: AgentConfig, observation_dim: int, action_dim: int) -> int:
    """Return about how many bytes an agent's networks and optimisers take; right to a small factor.

    Args:
        config: of the agent; its ``hidden``, ``critic_hidden``, ``critics`` and ``atoms`` count where it has them.
        observation_dim, action_dim: widths.
    """
    hidden = tuple(getattr(config, "hidden", ()))
    critic_hidden = tuple(getattr(config, "critic_hidden", None) or hidden)
    action_dim = config.chunk_size * action_dim
    policy = _weights((observation_dim, *hidden, 2 * action_dim))
    outputs = getattr(config, "atoms", 1) * config.reward_dim
    critic = _weights((observation_dim + action_dim, *critic_hidden, outputs))
    return 4 * COPIES * (policy + getattr(config, "critics", 1) * critic)


def replay_bytes(capacity: int, observation_dim: int, action_dim: int, reward_dim: int = 1) -> int:
    """Return how many bytes a replay of so many transitions takes, optional fields left out."""
    return 4 * capacity * (2 * observation_dim + action_dim + reward_dim + 1)


def _weights(widths: Sequence[int]) -> int:
    return sum((before + 1) * after for before, after in pairwise(widths))
