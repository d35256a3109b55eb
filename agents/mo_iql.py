"""Implicit Q-learning for several rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.iql import IQL
from balrl.agents.multi_objective import MultiObjective
from balrl.agents.multi_objective_hyperparameters import MOIQLConfig
from balrl.batch import Batch
from balrl.optim import descend
from balrl.vector_critics import VectorQEnsemble, VectorValue


class MOIQL(MultiObjective, IQL):
    """Implicit Q-learning (arXiv 2110.06169) under every preference at once, from logged vector rewards.

    - Value: ``L_V = E[ |τ − 1(u(w, q) − u(w, V) < 0)| · ‖q − V(s, w)‖² / m ]`` with q the target critics' vector of
      least utility. With the linear utility wᵀV is the τ-expectile of wᵀq, and V what it is made of.
    - Critics: ``L_Q = Σ_j E‖ r + γ (1 − d) V(s', w) − Q_j(s, a, w) ‖² / m``.
    - Policy and balance are IQL's: ``−E[ min(exp(β (u(w, q) − u(w, V))), 100) log π(a | s, w) ]``.
    """

    config_type = MOIQLConfig
    config: MOIQLConfig
    value: VectorValue
    critic: VectorQEnsemble
    target_critic: VectorQEnsemble

    def _make_critic(self, c: MOIQLConfig) -> VectorQEnsemble:  # type: ignore[override]
        dims = self.normalizer.output_dim, self.spaces.action_dim
        return self._vector_critic(*dims, c.hidden, c.critics, c.layer_norm)

    def _make_value(self, c: MOIQLConfig) -> VectorValue:  # type: ignore[override]
        return VectorValue(c.objectives, self._make_utility(), self.normalizer.output_dim, c.hidden, c.layer_norm)

    def _step_value(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            target = self.target_critic.least(observations, actions)
        loss, value = self.vector_value_loss(observations, target)
        descend(self.optimizers["value"], loss)
        w = observations[..., -self.config.objectives :]
        return self.critic.utility(target, w), {"value/loss": loss.detach(), "value/mean": value.mean()}

    def vector_value_loss(self, observations: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expectile loss ``[]`` towards ``target [B, m]`` and the values' utilities ``[B]``, detached."""
        vectors, w = self.value.vectors(observations), observations[..., -self.config.objectives :]
        utility = self.value.utility(vectors, w)
        is_below = self.value.utility(target, w) < utility
        weight = (self.config.expectile - is_below.to(vectors.dtype)).abs()
        return (weight * (target - vectors).square().mean(-1)).mean(), utility.detach()

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            following = self.value.vectors(self.normalizer(batch.next_observations))
        target = batch.rewards + self.discounts(batch) * following.masked_fill(batch.terminated.unsqueeze(-1), 0)
        q = self.critic.vectors(self.normalizer(batch.observations), batch.actions)
        return self.regression(target, q), q.detach()
