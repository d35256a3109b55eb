"""Decision Transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.return_conditioned import ReturnConditioned
from balrl.agents.sequence_hyperparameters import DecisionTransformerConfig
from balrl.batch import Batch
from balrl.checkpoint import POLICY
from balrl.optim import adam, descend, warm_up
from balrl.remembering import Memory
from balrl.transformer import SequencePolicy


class DecisionTransformer(ReturnConditioned):
    """Decision Transformer (Chen et al., arXiv 2106.01345): actions of a causal transformer, given returns-to-go.

    - Loss: ``L = mean over B, K and action dimensions of m_t (π(s_≤t, a_<t, G_≤t) − a_t)²``, m_t = 0 behind an
      episode's end. G is scaled by `return_scale`, and a vector of several rewards beside a preference.
    - With `immediate` (after DT4IER) the return's token is ``w_1(s) E(G_t) + w_2(s) E'(mean of the next rewards)``,
      ``w = softmax(f(s))``: how much the near future counts beside the far one is learned, and depends on the state.
      When acting, the near future is what is left of the target over the steps that are left.
    - With `contrast` embeddings z of the windows' first returns are kept apart by level, among B of a batch:
      ``−mean_i log( mean_{p ∈ P(i)} e^{z_i·z_p/τ} / Σ_{k ≠ i} e^{z_i·z_k/τ} )``, P(i) the others of i's level.

    AdamW with a linear warm-up; the norm of the gradient is limited.
    """

    config_type = DecisionTransformerConfig
    carried = (POLICY,)
    config: DecisionTransformerConfig
    policy: SequencePolicy

    @classmethod
    def policy_kind(cls, config: object) -> str:
        return SequencePolicy.kind

    def _build(self, c: DecisionTransformerConfig) -> None:
        self._make_target()
        widths = self.normalizer.output_dim, self.spaces.action_dim, c.objectives
        self.policy = SequencePolicy(
            *widths, c.horizon, c.width, c.layers, c.heads, c.dropout, balanced=c.immediate is not None
        )
        self.optimizers["policy"] = adam(self.policy.parameters(), c.learning_rate, scheduled=True)

    def _update(self, batch: Batch) -> Metrics:
        c = self.config
        loss, contrast = self.policy_loss(batch)
        warm_up(self.optimizers["policy"], c.learning_rate, self.clock, c.warmup_updates)
        descend(self.optimizers["policy"], loss + c.contrast * contrast, c.max_gradient_norm, c.weight_decay)
        return {"policy/loss": loss.detach(), **({"policy/contrast": contrast.detach()} if c.contrast else {})}

    def policy_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the imitation loss ``[]`` of windows, and the contrastive one ``[]``, 0 without a weight."""
        states, returns = self.states(batch), self._returns(batch.returns_to_go, batch)
        immediate = self._next_rewards(batch) if self.config.immediate else None
        assert batch.timesteps is not None
        assert batch.played is not None
        found = self.policy(states, batch.actions, returns, batch.timesteps, immediate, dropout=self.stream)
        loss = ((found - batch.actions).square() * batch.played.unsqueeze(-1)).mean()
        if not self.config.contrast:
            return loss, loss.new_zeros(())
        first = None if immediate is None else immediate[:, :1]
        embedded = self.policy.embedded_returns(states[:, :1], returns[:, :1], first)[:, 0]
        return loss, self.contrastive_loss(embedded, returns[:, 0].mean(-1))

    def contrastive_loss(self, embedded: Tensor, returns: Tensor) -> Tensor:
        """Return the contrastive loss ``[]`` of embeddings ``[B, width]``; levels are by rank of returns ``[B]``."""
        count = len(returns)
        ranks = (returns.unsqueeze(0) < returns.unsqueeze(1)).sum(-1)  # equal returns are of one level
        levels = ranks * self.config.contrast_levels // count
        z = F.normalize(embedded, dim=-1)
        other = ~torch.eye(count, dtype=torch.bool, device=z.device)
        similar = (levels.unsqueeze(0) == levels.unsqueeze(1)) & other
        has_own = similar.any(-1)
        alone = ~has_own.unsqueeze(-1)  # rows that do not count: finite all the same, for the gradient's sake
        scores = z @ z.T / self.config.contrast_temperature
        everything = scores.masked_fill(~(other | alone), -math.inf).logsumexp(-1)
        own = scores.masked_fill(~(similar | alone), -math.inf).logsumexp(-1)
        each = everything - own + similar.sum(-1).clamp(min=1).to(z.dtype).log()
        return (each * has_own).sum() / has_own.sum().clamp(min=1)

    def empty_memory(self, worlds: int) -> Memory:
        """What is left of the target ``[N, m]``, the last K observations, actions and returns, and the step ``[N]``."""
        k, m = self.config.sequence_length, self.config.objectives
        made: dict[str, Any] = {"device": self.device, "dtype": self.target.dtype}
        widths = (self.normalizer.output_dim, self.spaces.action_dim, m)
        windows = (torch.zeros(worlds, k, width, **made) for width in widths)
        return (torch.zeros(worlds, m, **made), *windows, torch.zeros(worlds, dtype=torch.int64, device=self.device))

    @torch.no_grad()
    def act_from(
        self, observations: Tensor, memory: Memory, deterministic: bool = False, balance: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Return the actions ``[N, action_dim]`` at the last step of what is remembered; the policy has no noise."""
        pending, states, actions, returns, steps = memory
        now = self.normalizer(observations)
        pending = self.pending(now, pending, steps)
        states, returns = _pushed(states, now), _pushed(returns, pending)
        actions = _pushed(actions, torch.zeros_like(actions[:, 0]))
        places = torch.arange(states.shape[1], device=steps.device) - (states.shape[1] - 1)
        times = steps.unsqueeze(-1) + places
        immediate = returns / self.left(times).unsqueeze(-1) if self.config.immediate else None
        policy = self.acting_policy
        assert isinstance(policy, SequencePolicy)
        scaled = self.config.return_scale * returns
        chosen = policy(states, actions, scaled, times.clamp(min=0), immediate, times >= 0)[:, -1].clamp(-1, 1)
        actions = torch.cat([actions[:, :-1], chosen.unsqueeze(1)], 1)
        return chosen, (pending, states, actions, returns, steps + 1)

    def _returns(self, returns: Tensor | None, batch: Batch) -> Tensor:
        """Return scaled returns-to-go ``[B, K, m]``."""
        assert returns is not None
        return self.config.return_scale * returns.reshape(*batch.played.shape, self.config.objectives)  # type: ignore[union-attr]

    def _next_rewards(self, batch: Batch) -> Tensor:
        """Return the mean reward ``[B, K, m]`` of the next steps, as many as there are in the window."""
        assert batch.played is not None
        assert self.config.immediate is not None
        weight = batch.played.unsqueeze(-1)
        rewards = batch.rewards.reshape(*batch.played.shape, -1) * weight
        length, h = batch.played.shape[1], self.config.immediate
        totals = []
        for x in (rewards, weight):
            sums = F.pad(x.cumsum(1), (0, 0, 1, 0))
            sums = torch.cat([sums, sums[:, -1:].expand(-1, h - 1, -1)], 1)
            totals.append(sums[:, h:] - sums[:, :length])
        return totals[0] / totals[1].clamp(min=1)


def _pushed(window: Tensor, newest: Tensor) -> Tensor:
    """Return a window ``[N, K, ·]`` without its oldest step and with a newest ``[N, ·]``."""
    return torch.cat([window[:, 1:], newest.unsqueeze(1).to(window.dtype)], 1)
