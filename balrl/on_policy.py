"""Storage for algorithms that learn from what their present policy did, and only once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from balrl.batch import TRANSITION, Batch
from balrl.errors import UserError
from balrl.random_stream import RandomStream

COMPUTED = ("log_probs", "advantages", "value_targets")


class RolloutBuffer:
    """T steps of N worlds: filled one by one, given their advantages, drawn from in shuffled batches, and emptied.

    Args:
        steps: T.
        num_envs: N.
        observation_dim: width of an observation.
        action_dim: width of an action.
        epochs: passes over all of them before they are emptied.
        batch_size: rows of a batch.
        device: where the storage lives and batches come from.
    """

    def __init__(
        self,
        steps: int,
        num_envs: int,
        observation_dim: int,
        action_dim: int,
        epochs: int,
        batch_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if steps * num_envs < batch_size:
            raise UserError(
                f"batch_size is {batch_size:,}, a rollout has {steps:,} steps of {num_envs:,} environments, "
                f"{steps * num_envs:,} transitions; lower it, or raise agent.rollout_steps or num_envs"
            )
        self.steps, self.epochs, self.batch_size, self.device = steps, epochs, batch_size, torch.device(device)
        shape = (steps, num_envs)
        self.observations = torch.zeros(*shape, observation_dim, device=self.device)
        self.next_observations = torch.zeros(*shape, observation_dim, device=self.device)
        self.actions = torch.zeros(*shape, action_dim, device=self.device)
        self.rewards, self.log_probs, self.advantages, self.value_targets = (
            torch.zeros(shape, device=self.device) for _ in range(4)
        )
        self.terminated, self.done = (torch.zeros(shape, dtype=torch.bool, device=self.device) for _ in range(2))
        self.valid = torch.ones(shape, dtype=torch.bool, device=self.device)
        self.batches = epochs * (steps * num_envs // batch_size)
        self.order = torch.zeros(self.batches * batch_size, dtype=torch.int64, device=self.device)
        self.start = torch.zeros((), dtype=torch.int64, device=self.device)
        self.filled = 0

    @property
    def is_full(self) -> bool:
        """Whether all T steps have been taken."""
        return self.filled == self.steps

    @property
    def taken(self) -> Batch:
        """The transitions, ``[T, N, …]``."""
        return Batch(*(getattr(self, name) for name in TRANSITION))

    def add(self, batch: Batch, done: Tensor, valid: Tensor | None = None) -> None:
        """Append one vector step ``[N, …]``.

        Args:
            batch: its transitions; those of `TRANSITION` are kept.
            done: ``[N]`` bool, whose episodes it ended.
            valid: ``[N]`` bool, which rows are transitions; None: all.
        """
        if self.is_full:
            raise ValueError(f"the rollouts have their {self.steps} steps; empty them first")
        for name in TRANSITION:
            getattr(self, name)[self.filled] = getattr(batch, name)
        self.done[self.filled] = done
        self.valid[self.filled] = True if valid is None else valid
        self.filled += 1

    def store(self, log_probs: Tensor, advantages: Tensor, value_targets: Tensor) -> None:
        """Store what the algorithm makes of the steps, each ``[T, N]``."""
        self.log_probs.copy_(log_probs)
        self.advantages.copy_(advantages)
        self.value_targets.copy_(value_targets)

    def shuffle(self, stream: RandomStream, clock: Tensor) -> int:
        """Lay out the passes over all transitions in batches, the first for `clock`; return how many there are.

        Each pass has an order of its own. What does not fill a batch at its end is left out of that pass.
        """
        rows = self.valid.flatten().nonzero().flatten()
        kept = len(rows) // self.batch_size * self.batch_size
        passes = [rows[stream.uniform(len(rows), dtype=torch.float64).argsort()[:kept]] for _ in range(self.epochs)]
        self.order[: self.epochs * kept] = torch.cat(passes)
        self.start.copy_(clock)
        return self.epochs * kept // self.batch_size

    def batch(self, clock: Tensor) -> Batch:
        """Return the batch that `shuffle` laid out for an agent's `clock` ``[]``."""
        first = (clock - self.start) * self.batch_size
        rows = self.order.index_select(0, first + torch.arange(self.batch_size, device=self.device))
        fields = {name: getattr(self, name).flatten(0, 1).index_select(0, rows) for name in (*TRANSITION, *COMPUTED)}
        return Batch(**fields)

    def relabel(self, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace the rewards of the steps taken so far by ``reward(observations, actions)`` ``[B]``."""
        flat = (x[: self.filled].flatten(0, 1) for x in (self.observations, self.actions))
        self.rewards[: self.filled] = reward(*flat).view(self.filled, -1)

    def clear(self) -> None:
        """Forget every step."""
        self.filled = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the steps that were taken since the last update."""
        return {name: getattr(self, name)[: self.filled] for name in (*TRANSITION, "done", "valid")}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.filled = len(state["rewards"])
        for name, value in state.items():
            getattr(self, name)[: self.filled] = value.to(self.device)
