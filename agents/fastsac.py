"""Soft actor-critic for thousands of worlds: few updates, each on thousands of rows, of critics that learn quickly."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.hyperparameters import FastSACConfig, SoftActorCriticConfig
from balrl.agents.sac import SAC
from balrl.batch import Batch
from balrl.distributional import CategoricalQEnsemble, project
from balrl.networks import QEnsemble, RunningMoments
from balrl.policies import TanhGaussianPolicy


class FastSAC(SAC):
    """Soft actor-critic with distributional critics, after FastSAC (arXiv 2512.01996) and FastTD3 (2505.22642).

    - Critics: ``L_Q = −Σ_i E[ Σ_j Φ_ij log p_ij(s, a) ]``; Φ_i is the projection of critic i's *own* target
      distribution, of ``r + γ (1 − d) (Z_target,i(s', a') − α log π(a'|s'))`` (`balrl.distributional.project`).
    - Policy and temperature: SAC's, with the mean of the critics' means for Q.
    - Observations are standardised with the running statistics of the batches.

    Every update looks at thousands of rows, the targets follow quickly, and the discount is short: what pays where
    worlds yield more transitions than updates could ever see one by one.
    """

    config_type = FastSACConfig
    config: FastSACConfig
    critic: CategoricalQEnsemble
    target_critic: CategoricalQEnsemble

    def _build(self, c: SoftActorCriticConfig) -> None:
        super()._build(c)
        self.moments = RunningMoments(self.spaces.observation_dim)
        policy = cast(TanhGaussianPolicy, self.policy)
        with torch.no_grad():  # the first policy is the same in every state, and well inside the bounds
            policy.mean.weight.zero_()
            low, high = c.log_std_range
            if isinstance(policy.log_std, torch.nn.Parameter):
                policy.log_std.fill_((low + high) / 2)
            else:
                policy.log_std.weight.zero_()
                policy.log_std.bias.fill_((low + high) / 2)

    def _make_critic(self, c: SoftActorCriticConfig, gain: float) -> QEnsemble:
        dims = self.spaces.observation_dim, self.spaces.action_dim
        widths, own = c.critic_hidden or c.hidden, self.config
        return CategoricalQEnsemble(
            *dims,
            widths,
            c.critics,
            c.layer_norm,
            gain,
            c.activation,
            atoms=own.atoms,
            value_range=own.value_range,
        )

    @property
    def fits_normalizer(self) -> bool:
        return self.config.normalize_observations

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics; what they see is standardised with the batch's statistics among all others."""
        if self.config.normalize_observations:
            self.moments.add(batch.observations)
            self.normalizer.fit(self.moments.mean, self.moments.std)
        return super().update_critic(batch)

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the critics' cross-entropy ``[]``, summed over members, and what is worth watching of it."""
        inputs = self._normalized(batch)
        target = self.target_distribution(inputs)
        log_probabilities = self.critic.logits(inputs.observations, batch.actions).log_softmax(-1)
        loss = -(target * log_probabilities).sum(-1).mean(-1).sum(-1)
        q = (log_probabilities.detach().exp() * self.critic.support).sum(-1).mean()
        return loss, {"critic/loss": loss.detach(), "critic/q": q, "critic/border": self._on_the_border(target)}

    @torch.no_grad()
    def target_distribution(self, batch: Batch) -> Tensor:
        """Return each critic's target ``[members, B, atoms]`` for a normalised batch."""
        actions, log_prob = self._sample(self._next_inputs(batch))
        probabilities = self.target_critic.logits(batch.next_observations, actions).softmax(-1)
        discounts = self.discounts(batch) * (~batch.terminated).to(batch.rewards.dtype)
        rewards = batch.rewards
        if self.config.backup_entropy:
            rewards = rewards - discounts * self.temperature * log_prob
        return project(probabilities, self.critic.support, rewards, discounts)

    @staticmethod
    def _on_the_border(target: Tensor) -> Tensor:
        """Return the mass on the outermost atoms: where it is not small, `value_range` is too narrow."""
        return (target[..., 0] + target[..., -1]).mean()
