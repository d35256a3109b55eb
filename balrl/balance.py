"""What every balance between improvement and constraint is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from balrl.optim import OptimizedModule
from balrl.random_stream import RandomStream

Improvement = Callable[[Tensor], Tensor]
"""Maps coefficients ``[B]`` to the critics' values ``[members, B]`` of the policy's actions, differentiably."""
Slack = Callable[[Tensor], Tensor]
"""Maps a bound ``[]``, in deviations of the policy, to what is left of it in each row ``[B]``, detached."""


class Balance(OptimizedModule, ABC):
    """Gives every sample its coefficient. Larger always means more improvement, less constraint.

    An agent asks for coefficients (`sample` to train, `mode` to act), conditions its policy on them (`condition`),
    weights with them what it improves by (`weight`) and what it is held by (`constraint`), and lets the balance learn
    (`update` from the critics, `adapt` from the constraint); it never asks which kind it has.
    """

    is_family: ClassVar[bool]
    every: int = 1
    """Updates of the agent per update of the balance."""
    embedding_dim: int = 0
    """How much wider the policy's input is than the observation."""

    @abstractmethod
    def sample(self, observations: Tensor, online: bool, stream: RandomStream) -> Tensor:
        """Return the training coefficients ``[B]``, detached."""

    @abstractmethod
    def mode(self, observations: Tensor) -> Tensor:
        """Return the coefficients ``[B]`` to act with."""

    @abstractmethod
    def weight(self, coefficients: Tensor) -> Tensor:
        """Return what a loss is weighted with ``[B]`` under these coefficients."""

    @abstractmethod
    def condition(self, observations: Tensor, coefficients: Tensor) -> Tensor:
        """Return the policy's input ``[B, observation_dim + embedding_dim]``."""

    @abstractmethod
    def update(self, observations: Tensor, improvement: Improvement, stream: RandomStream) -> dict[str, Tensor]:
        """Take one step towards better coefficients and return what is worth watching."""

    def constraint(self, penalty: Tensor, observations: Tensor) -> Tensor:
        """Return what holds the policy or the critics to the data ``[…, B]``, weighted for these normalised states."""
        return penalty

    def adapt(
        self, observations: Tensor, slack: Slack, trusted: Tensor | None, clock: Tensor, length: int | None
    ) -> dict[str, Tensor]:
        """Take one step from how far the policy is from the data's actions and return what is worth watching.

        Args:
            observations: normalised ``[B, ·]``.
            slack: what is left of a bound, below zero where the policy is further away.
            trusted: rows ``[B]`` whose actions are worth keeping to, 1 or 0; None: all.
            clock: the phase's updates so far ``[]``.
            length: of the phase, where known.
        """
        return {}

    def tick(self, online: bool, clock: Tensor, length: int | None) -> None:
        """Hear that an update begins: the phase, its updates so far ``[]`` and its length where known."""
