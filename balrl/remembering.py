"""Acting with a memory: what an agent keeps of running episodes, carried from step to step by whoever plays them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.rollout import Step

if TYPE_CHECKING:
    from balrl.agent import Agent

Memory = tuple[Tensor, ...]
"""What is kept of N running episodes, each tensor ``[N, …]``."""


class RememberingPolicy:
    """An agent that remembers, as who acts: asked for actions and told of every step that came of them.

    Args:
        agent: with `Agent.remembers`.
        explores: takes the actions that are taken to learn from; otherwise the policy's mode.
        memory: to go on with; without one every episode begins.
        balance: a member of the policy's family; by default the agent's own choice.
    """

    def __init__(
        self, agent: Agent, explores: bool = False, memory: Memory | None = None, balance: float | None = None
    ) -> None:
        self.agent, self.explores, self.memory, self.balance = agent, explores, memory, balance

    def __call__(self, observations: Tensor) -> Tensor:
        """Return actions ``[N, action_dim]`` in [-1, 1] for raw observations ``[N, ·]``."""
        if self.memory is None:
            self.memory = self.agent.empty_memory(len(observations))
        asked = None if self.balance is None else torch.full_like(observations[:, 0], self.balance)
        actions, self.memory = self.agent.act_from(observations, self.memory, not self.explores, asked)
        return actions

    def saw(self, step: Step) -> None:
        """Take note of what became of the actions."""
        assert self.memory is not None
        ended = step.done if step.valid is None else step.done | ~step.valid
        rewards, ended = (x.to(self.agent.device) for x in (step.batch.rewards, ended))
        self.memory = self.agent.after_step(self.memory, rewards, ended)

    def begin(self) -> None:
        """Hear that every world begins a new episode."""
        self.memory = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the memory, for a checkpoint."""
        return {f"memory.{index}": kept for index, kept in enumerate(self.memory or ())}

    @classmethod
    def resumed(cls, agent: Agent, tensors: Mapping[str, Tensor]) -> RememberingPolicy:
        """Return who goes on exploring with what `tensors` gave."""
        kept = [tensors[f"memory.{index}"].to(agent.device) for index in range(len(tensors))]
        return cls(agent, explores=True, memory=tuple(kept) or None)


def forget(memory: Memory, blank: Memory, ended: Tensor) -> Memory:
    """Return a memory in which the episodes that `ended` ``[N]`` are as `blank`."""
    return tuple(
        torch.where(ended.view(-1, *[1] * (kept.dim() - 1)), empty, kept)
        for kept, empty in zip(memory, blank, strict=True)
    )


def recalled(agent: Agent, state: tuple[np.ndarray[Any, Any], ...] | None, starts: Tensor) -> Memory:
    """Return the memory that somebody kept as numpy arrays, as `Agent.predict` gave it; without one it is empty.

    Args:
        starts: ``[N]``, where episodes begin, and what is kept is forgotten.

    Raises:
        UserError: when it is of another number of worlds, or of another kind.
    """
    blank = agent.empty_memory(len(starts))
    if state is None:
        return blank
    shapes = [tuple(np.shape(kept)) for kept in state]
    if shapes != [tuple(kept.shape) for kept in blank]:
        raise UserError(f"the state has shapes {shapes}, expected {[tuple(kept.shape) for kept in blank]}")
    memory = tuple(torch.as_tensor(kept, device=agent.device) for kept in state)
    return forget(memory, blank, starts)


def beginnings(episode_start: Any, worlds: int, device: torch.device) -> Tensor:
    """Return which of so many worlds' episodes begin ``[N]``; none where nothing is said.

    Raises:
        UserError: when it is of another number of worlds.
    """
    said = False if episode_start is None else episode_start
    starts = torch.as_tensor(np.atleast_1d(said), dtype=torch.bool, device=device)
    if len(starts) not in (1, worlds):
        raise UserError(f"episode_start is of {len(starts)} worlds, there are {worlds} observations")
    return starts.expand(worlds)


def rewards_of_a_step(reward: Any, worlds: int, objectives: int) -> np.ndarray[Any, Any]:
    """Return what a step paid, ``[N]``, or ``[N, m]`` of several rewards, as somebody gave it.

    Raises:
        UserError: when it is of another number of worlds or rewards.
    """
    paid = np.asarray(reward, np.float32)
    expected = (worlds,) if objectives == 1 else (worlds, objectives)
    if paid.size != np.prod(expected):
        raise UserError(f"the reward has shape {paid.shape}, expected {expected} of {worlds} observations")
    return paid.reshape(expected)
