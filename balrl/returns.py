"""Monte-Carlo returns, of logged episodes and of those that are still being collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from balrl.batch import Batch

Array = NDArray[Any]
MCTruncation = Literal["sum", "last_reward", "none"]


@dataclass(frozen=True)
class MonteCarlo:
    """How the discounted return from every step on, ``G_t = Σ_k γ^k r_{t+k}``, is taken from one recorded episode.

    Attributes:
        discount: γ in [0, 1].
        truncation: what stands beyond the end of a truncated episode. ``sum``: nothing (as released by Cal-QL);
            ``last_reward``: the last reward for ever, ``γ^T · r_T/(1 − γ)``; ``none``: −∞ throughout the episode, which
            turns Cal-QL into CQL there.
        step_penalty: of a sparse task. An episode in which every reward equals it never succeeded, and its return is
            that of paying for ever, ``r/(1 − γ)``, at every step, whatever the truncation.

    Raises:
        ValueError: for ``last_reward`` or a step penalty with γ = 1.
    """

    discount: float
    truncation: MCTruncation = "sum"
    step_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.discount == 1 and (self.truncation == "last_reward" or self.step_penalty is not None):
            raise ValueError("discount is 1: a reward that is paid for ever has no finite return")

    def returns(self, rewards: Array, terminated: bool) -> Array:
        """Return G ``[T]`` float32 for the rewards ``[T]`` of one episode, which terminated or was truncated."""
        if self.step_penalty is not None and (rewards == np.float32(self.step_penalty)).all():
            return np.full(len(rewards), self.step_penalty / (1 - self.discount), np.float32)
        if not terminated and self.truncation == "none":
            return np.full(len(rewards), -np.inf, np.float32)
        following = 0.0
        if not terminated and self.truncation == "last_reward":
            following = float(rewards[-1]) / (1 - self.discount)
        found = np.zeros(len(rewards), np.float64)
        for t in range(len(rewards) - 1, -1, -1):
            following = float(rewards[t]) + self.discount * following
            found[t] = following
        return found.astype(np.float32)


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    discount: float,
    decay: float,
) -> Tensor:
    """Return generalised advantages ``[T, N]`` of T steps of N worlds (Schulman et al., arXiv 1506.02438).

    ``A_t = δ_t + γλ (1 − done_t) A_{t+1}`` with ``δ_t = r_t + γ (1 − terminated_t) V(s'_t) − V(s_t)``, all ``[T, N]``.

    Args:
        next_values: of the true next observations, those of episodes that end there included.
        terminated: where the task itself ended.
        done: where an episode ended or was cut off.
        discount: γ in [0, 1].
        decay: λ in [0, 1].
    """
    errors = rewards + discount * torch.where(terminated, 0.0, next_values) - values
    advantages, following = torch.empty_like(errors), torch.zeros_like(errors[0])
    for t in range(len(errors) - 1, -1, -1):
        following = errors[t] + discount * decay * torch.where(done[t], 0.0, following)
        advantages[t] = following
    return advantages


class RunningEpisodes:
    """Holds back the transitions of N worlds until their episode has ended, and gives them their returns then.

    Args:
        num_envs: N.
        monte_carlo: how returns are taken.
    """

    def __init__(self, num_envs: int, monte_carlo: MonteCarlo) -> None:
        self.monte_carlo = monte_carlo
        self.num_envs = num_envs
        self.steps: list[Batch] = []
        self.starts = [0] * num_envs
        """Where in `steps` each world's running episode begins."""

    def __len__(self) -> int:
        """How many transitions are held back."""
        return sum(len(self.steps) - start for start in self.starts)

    def add(self, batch: Batch, done: Tensor, valid: Tensor | None = None) -> Batch | None:
        """Take one vector step ``[N, …]`` and return the transitions of the episodes that it ended, if any."""
        self.steps.append(batch)
        ended = []
        failed = torch.zeros_like(done) if valid is None else done & ~valid
        for world in failed.nonzero().flatten().tolist():  # the world failed: its episode was cut one step before
            if self.starts[world] < len(self.steps) - 1:
                ended.append(self._take(world, len(self.steps) - 1))
        if valid is not None:
            for world in (~valid).nonzero().flatten().tolist():
                self.starts[world] = len(self.steps)  # a reset row is no transition; the episode begins after it
        for world in (done & ~failed).nonzero().flatten().tolist():
            ended.append(self._take(world, len(self.steps)))
        oldest = min(self.starts)
        if oldest:
            self.steps = self.steps[oldest:]
            self.starts = [start - oldest for start in self.starts]
        if not ended:
            return None
        return Batch(*(None if x[0] is None else torch.cat(x) for x in zip(*ended, strict=True)))  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the transitions that are held back."""
        if not self.steps:
            return {}
        names = [name for name, value in self.steps[0]._asdict().items() if value is not None]
        fields = {name: torch.stack([getattr(step, name) for step in self.steps]) for name in names}
        return {**fields, "starts": torch.tensor(self.starts)}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Undo `state_dict` on a device; without a state, hold nothing back."""
        self.steps, self.starts = [], [0] * self.num_envs
        if state:
            fields = {name: value.to(device).unbind() for name, value in state.items() if name != "starts"}
            self.steps = [Batch(**dict(zip(fields, row, strict=True))) for row in zip(*fields.values(), strict=True)]
            self.starts = state["starts"].tolist()

    def _take(self, world: int, stop: int) -> Batch:
        rows = self.steps[self.starts[world] : stop]
        self.starts[world] = len(self.steps)
        episode = Batch(
            *(
                None if column[0] is None else torch.stack([x[world] for x in column])
                for column in zip(*rows, strict=True)
            )  # type: ignore[arg-type]
        )
        returns = self.monte_carlo.returns(episode.rewards.cpu().numpy(), bool(episode.terminated[-1]))
        return episode._replace(mc_returns=torch.from_numpy(returns).to(episode.rewards.device))
