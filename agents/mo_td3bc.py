"""TD3+BC for several rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.agents.multi_objective import MultiObjective
from balrl.agents.multi_objective_hyperparameters import MOTD3BCConfig
from balrl.agents.td3bc import TD3BC
from balrl.batch import Batch
from balrl.vector_critics import VectorQEnsemble


class MOTD3BC(MultiObjective, TD3BC):
    """TD3+BC (arXiv 2106.06860) under every preference at once, from logged vector rewards (after arXiv 2401.02244).

    - Critics: ``L_Q = Σ_j E‖ r + γ (1 − d) Q_target,j*(s', ã, w) − Q_j(s, a, w) ‖² / m``, j* the member of least
      utility at the target policy's noisy action ã.
    - Policy and balance are TD3+BC's, on ``u(w, Q_j)``: ``L_π = E[ ‖π(s, w) − a‖² / dim − α u(w, Q_1) / mean|u| ]``.
    """

    config_type = MOTD3BCConfig
    config: MOTD3BCConfig
    critic: VectorQEnsemble
    target_critic: VectorQEnsemble

    def _make_critic(self, c: MOTD3BCConfig) -> VectorQEnsemble:  # type: ignore[override]
        dims = self.normalizer.output_dim, self.spaces.action_dim
        return self._vector_critic(*dims, c.critic_hidden or c.hidden, c.critics, c.layer_norm)

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        following = self.next_vectors(batch).masked_fill(batch.terminated.unsqueeze(-1), 0)
        q = self.critic.vectors(self.normalizer(batch.observations), batch.actions)
        return self.regression(batch.rewards + self.discounts(batch) * following, q), q.detach()

    @torch.no_grad()
    def next_vectors(self, batch: Batch) -> Tensor:
        """Return ``Q_target,j*(s', ã, w)`` ``[B, m]``."""
        observations = self.normalizer(batch.next_observations)
        return self.target_critic.least(observations, self._next_actions(observations))
