"""RvS: reinforcement learning via supervised learning."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.return_conditioned import ReturnConditioned
from balrl.agents.sequence_hyperparameters import RvSConfig
from balrl.batch import Batch
from balrl.checkpoint import POLICY
from balrl.optim import adam, descend
from balrl.policies import DeterministicPolicy
from balrl.remembering import Memory


class RvS(ReturnConditioned):
    """RvS-R (Emmons et al., arXiv 2112.10751): imitation given the average return of the steps that are left.

    ``L = E[ mean over action dimensions (π(s, ω) − a)² ]``, ``ω = G_t / (H − t)``: the return-to-go over the steps that
    are left of the horizon H. Several rewards make ω a vector, beside a preference. When acting ``ω = G_0 / H``
    throughout (`hold_target`), or what is left of G_0 over the steps that are left.
    """

    config_type = RvSConfig
    carried = (POLICY,)
    config: RvSConfig
    policy: DeterministicPolicy

    @classmethod
    def policy_kind(cls, config: object) -> str:
        return DeterministicPolicy.kind

    def _build(self, c: RvSConfig) -> None:
        self._make_target()
        inputs = self.normalizer.output_dim + c.objectives
        self.policy = DeterministicPolicy(inputs, self.spaces.action_dim, c.hidden, c.dropout)
        self.optimizers["policy"] = adam(self.policy.parameters(), c.learning_rate)

    def _update(self, batch: Batch) -> Metrics:
        loss = self.policy_loss(batch)
        descend(self.optimizers["policy"], loss)
        return {"policy/loss": loss.detach()}

    def policy_loss(self, batch: Batch) -> Tensor:
        """Return the imitation loss ``[]``."""
        assert batch.returns_to_go is not None
        assert batch.timesteps is not None
        returns = batch.returns_to_go.reshape(len(batch.actions), -1)
        inputs = self._conditioned(self.states(batch), returns, batch.timesteps)
        error: Tensor = self.policy(inputs, self.stream) - batch.actions
        return error.square().mean()

    def empty_memory(self, worlds: int) -> Memory:
        """What is left of the target ``[N, m]``, and the step ``[N]``."""
        pending = torch.zeros(worlds, self.config.objectives, device=self.device, dtype=self.target.dtype)
        return pending, torch.zeros(worlds, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def act_from(
        self, observations: Tensor, memory: Memory, deterministic: bool = False, balance: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Return the actions ``[N, action_dim]`` for what is left of the target; the policy has no noise."""
        pending, steps = memory
        now = self.normalizer(observations)
        pending = self.pending(now, pending, steps)
        asked = (self.targets(now), torch.zeros_like(steps)) if self.config.hold_target else (pending, steps)
        chosen = self.acting_policy.mode(self._conditioned(now, *asked)).clamp(-1, 1)
        return chosen, (pending, steps + 1)

    def _conditioned(self, inputs: Tensor, returns: Tensor, steps: Tensor) -> Tensor:
        """Return normalised observations with ω, scaled, beside them."""
        average = returns / self.left(steps).unsqueeze(-1)
        scale = self.config.return_scale * self.config.horizon  # ω as if it were the return of a whole episode
        return torch.cat([inputs, (scale * average).to(inputs.dtype)], -1)
