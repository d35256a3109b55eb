"""What agents for several rewards share: a preference beside every observation, and critics that are vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics, Phase
from balrl.agents.multi_objective_hyperparameters import MultiObjectiveConfig
from balrl.batch import Batch
from balrl.vector_critics import Utility, VectorQEnsemble, draw_preferences


class MultiObjective(Agent):
    """Mixed into an agent, it learns from rewards ``[B, m]`` one policy π(a | s, w) for all preferences w.

    Every row of a batch gets a preference (of the simplex, uniformly, or its episode's own: `behaviour_share`), which
    then stands beside its observations; so policy, critics and balance model see it. Critics are vectors, and called
    they give utilities: what the agent does with values it does with those.
    """

    config: MultiObjectiveConfig
    target_critic: VectorQEnsemble

    def _make_utility(self) -> Utility:
        return Utility(self.config.utopia).to(self.device)

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        own = ("preferences",) if phase == "offline" and self.config.behaviour_share else ()
        return (*super().fields_in(phase), *own)

    def update(self, batch: Batch) -> Metrics:
        """Take one step as the agent does, every row under a preference drawn for it."""
        return super().update(self.preferring(batch))

    def update_utd(self, batch: Batch, utd: int) -> Metrics:
        """Take `utd` updates as the agent does, every row under a preference drawn for it."""
        return super().update_utd(self.preferring(batch), utd)

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics alone, every row under a preference drawn for it."""
        return super().update_critic(self.preferring(batch))

    def preferring(self, batch: Batch) -> Batch:
        """Return a batch with a preference beside its observations, the same in the next ones, if there is none yet."""
        if batch.observations.shape[-1] > self.spaces.observation_dim:
            return batch
        rows, m = len(batch.actions), self.config.objectives
        if batch.rewards.shape != (rows, m):
            raise ValueError(
                f"rewards have shape {tuple(batch.rewards.shape)}, expected {(rows, m)}, one per objective"
            )
        w = draw_preferences(self.stream.uniform(rows, m, dtype=batch.rewards.dtype))
        if batch.preferences is not None and self.config.behaviour_share:
            is_own = self.stream.uniform(rows) < self.config.behaviour_share
            w = torch.where(is_own.unsqueeze(-1), batch.preferences, w)
        return batch._replace(
            observations=torch.cat([batch.observations, w], -1),
            next_observations=torch.cat([batch.next_observations, w], -1),
            preferences=None,
        )

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor:
        """Return the utility ``[B]`` of what the critics are moved to, under the batch's preference or the agent's.

        ``u(w, r + γ (1 − d) q)`` with q the target critics' vector of least utility for the policy's mode.
        """
        w = self.normalizer(batch.observations)[..., self.spaces.observation_dim :]
        actions = self.act(batch.next_observations, deterministic=True)
        following = self.target_critic.least(self.normalizer(batch.next_observations), actions)
        vectors = batch.rewards + self.discounts(batch) * following.masked_fill(batch.terminated.unsqueeze(-1), 0)
        return self.target_critic.utility(vectors, w)

    @staticmethod
    def regression(target: Tensor, vectors: Tensor) -> Tensor:
        """Return ``Σ_j E‖ y − Q_j ‖² / m`` ``[]`` for targets ``[B, m]`` and Q ``[members, B, m]``."""
        return (target - vectors).square().mean((-2, -1)).sum(-1)

    def _vector_critic(self, *args: Any, **settings: Any) -> VectorQEnsemble:
        return VectorQEnsemble(self.config.objectives, self._make_utility(), *args, **settings)
