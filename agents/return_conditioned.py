"""What agents that are asked for a return share: the target, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from balrl.agent import Agent, Phase
from balrl.agents.sequence_hyperparameters import ReturnConditionedConfig
from balrl.batch import Batch
from balrl.errors import UserError
from balrl.front import nondominated
from balrl.remembering import Memory


class ReturnConditioned(Agent):
    """Imitates the data given what it returned, and acts given what is asked of it: ``π(a | s, G)``.

    The target G_0 is `target`, plus a linear function of the preference where there are several rewards (PEDA, arXiv
    2305.00567); each step's rewards are taken off it. Both are in raw units: no other reward scale may be set.
    """

    remembers = True
    offline_only = True
    config: ReturnConditionedConfig
    target: Tensor
    slope: Tensor
    learns_from: ClassVar[tuple[str, ...]] = ("returns_to_go", "timesteps")

    def _make_target(self) -> None:
        m = self.config.objectives
        self.register_buffer("target", torch.tensor(self.config.target_return or (0.0,) * m))
        self.register_buffer("slope", torch.zeros(m, m))

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        several = ("preferences",) if self.config.objectives > 1 else ()
        return (*self.learns_from, *several)

    def see_returns(self, returns: np.ndarray[Any, Any], preferences: np.ndarray[Any, Any] | None) -> None:
        """Ask for the best that is in the data, unless the configuration says what.

        Of several rewards a linear regression of the return vectors that no other dominates on the preferences under
        which those episodes were good; both centred, so that where there are few the target is their mean.
        """
        if self.config.target_return is not None:
            return
        if preferences is None:
            self.target.fill_(float(returns.max()))
            return
        best = nondominated(returns)
        w, mean = preferences[best].mean(0), returns[best].mean(0)
        slope = np.linalg.lstsq(preferences[best] - w, returns[best] - mean, rcond=None)[0]
        self.slope.copy_(torch.from_numpy(slope))
        self.target.copy_(torch.from_numpy(mean - w @ slope))

    def aim(self, target: Sequence[float] | float) -> None:
        """Ask for this raw return from now on, whatever the preference.

        Raises:
            UserError: for another number of rewards, or what is no number.
        """
        try:
            found = torch.as_tensor(np.asarray(target, np.float64), dtype=self.target.dtype).reshape(-1)
        except (TypeError, ValueError) as error:
            raise UserError(f"the target is {target!r}, expected {len(self.target)} numbers, one per reward") from error
        if found.shape != self.target.shape:
            raise UserError(f"the target has {len(found)} numbers, expected {len(self.target)}, one per reward")
        if not bool(found.isfinite().all()):
            raise UserError(f"the target is {found.tolist()}, expected finite numbers")
        self.target.copy_(found)
        self.slope.zero_()

    def states(self, batch: Batch) -> Tensor:
        """Return a batch's normalised observations ``[…, ·]``, of several rewards beside its episodes' preferences."""
        observations = batch.observations
        if self.config.objectives > 1:
            assert batch.preferences is not None
            observations = torch.cat([observations, batch.preferences], -1)
        return self.normalizer(observations)

    def pending(self, inputs: Tensor, left: Tensor, steps: Tensor) -> Tensor:
        """Return what is asked for ``[N, m]``: what is left, or at an episode's first step ``[N]`` the target."""
        return torch.where((steps == 0).unsqueeze(-1), self.targets(inputs).to(left.dtype), left)

    def targets(self, inputs: Tensor) -> Tensor:
        """Return the raw target ``[N, m]`` of episodes that begin, for normalised observations ``[N, ·]``."""
        if self.config.objectives == 1:
            return self.target.expand(len(inputs), -1)
        return self.target + inputs[:, -self.config.objectives :] @ self.slope

    def left(self, steps: Tensor) -> Tensor:
        """Return how many steps episodes have left ``[…]`` at these, this one included, by the horizon."""
        return (self.config.horizon - steps).clamp(min=1)

    def after_step(self, memory: Memory, rewards: Tensor, ended: Tensor) -> Memory:
        pending, *rest = memory
        return super().after_step((pending - rewards.reshape(pending.shape), *rest), rewards, ended)
