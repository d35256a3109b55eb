"""Soft actor-critic for several rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.multi_objective import MultiObjective
from balrl.agents.multi_objective_hyperparameters import MOSACConfig
from balrl.agents.sac import SAC
from balrl.batch import Batch
from balrl.vector_critics import VectorQEnsemble


class MOSAC(MultiObjective, SAC):
    """Soft actor-critic under every preference at once, after CAPQL (Lu, Herman and Yu, ICLR 2023).

    - Critics: ``L_Q = Σ_j E‖ r + γ (1 − d) (Q_target,j*(s', a', w) − α log π(a'|s', w) · 1) − Q_j(s, a, w) ‖² / m``
      with j* the member of least utility ``u(w, Q_target,j)``; preferences sum to 1: utilities carry the entropy once.
    - Policy, temperature and balance are SAC's, on ``u(w, Q_j(s, a, w))``.
    """

    config_type = MOSACConfig
    config: MOSACConfig
    critic: VectorQEnsemble
    target_critic: VectorQEnsemble

    def _make_critic(self, c: MOSACConfig, gain: float) -> VectorQEnsemble:  # type: ignore[override]
        dims = self.normalizer.output_dim, self.spaces.action_dim
        return self._vector_critic(*dims, c.critic_hidden or c.hidden, c.critics, c.layer_norm, gain, c.activation)

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        inputs = self._normalized(batch)
        following = self.next_vectors(inputs, self._random_members(self.config.target_subset))
        discounts = self.discounts(batch)
        target = batch.rewards + discounts * following.masked_fill(batch.terminated.unsqueeze(-1), 0)
        q = self.critic.vectors(inputs.observations, batch.actions)
        loss = self.regression(target, q)
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    @torch.no_grad()
    def next_vectors(self, batch: Batch, members: Tensor | None) -> Tensor:
        """Return the soft values ``[B, m]`` of a normalised batch's next observations."""
        actions, log_prob = self._sample(self._next_inputs(batch))
        values = self.target_critic.least(batch.next_observations, self._perturbed(actions), members)
        return values - (self.temperature * log_prob).unsqueeze(-1) if self.config.backup_entropy else values
