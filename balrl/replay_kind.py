"""Which replay an agent learns from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from balrl.chunks import ChunkReplay
from balrl.replay import ReplayBuffer
from balrl.sequences import SequenceReplay

if TYPE_CHECKING:
    from balrl.agent import Agent


def replay_kind(agent: Agent, num_envs: int = 0) -> Callable[..., ReplayBuffer]:
    """Return what makes a replay that an agent can learn from; it takes the arguments of `ReplayBuffer`.

    Args:
        num_envs: worlds whose steps are added; none for logged data.
    """
    several: dict[str, Any] = {"reward_dim": agent.reward_dim} if agent.reward_dim > 1 else {}
    if agent.sequence_length > 1:
        burn_in = getattr(agent.config, "burn_in", None)
        return partial(SequenceReplay, length=agent.sequence_length, burn_in=burn_in, num_envs=num_envs, **several)
    if agent.config.chunk_size == 1:
        return partial(ReplayBuffer, **several) if several else ReplayBuffer
    return partial(ChunkReplay, chunk_size=agent.config.chunk_size, discount=agent.discount, num_envs=num_envs)
