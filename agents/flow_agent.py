"""What agents of flow policies share: critics whose targets the agent's own next actions are valued for."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics
from balrl.agents.hyperparameters import FlowConfig
from balrl.batch import Batch
from balrl.networks import QEnsemble, polyak_update
from balrl.optim import adam, descend


class FlowAgent(Agent):
    """Critics of flow Q-learning (Park, Li and Levine, arXiv 2502.02538).

    ``L_Q = Σ_i E[ (Σ_{j<h} γ^j r_j + γ^h (1 − d) mean_k Q_target,k(s_{t+h}, a') − Q_i(s, a))² ]`` with a' of
    `next_actions` and h = `chunk_size`. As in the authors' release, the target critics move towards what the critics
    were before the step.
    """

    config_type: ClassVar[type[FlowConfig]]
    config: FlowConfig
    critic: QEnsemble
    target_critic: QEnsemble

    def _build_critics(self, c: FlowConfig) -> None:
        self.critic = QEnsemble(
            self.spaces.observation_dim,
            self.spaces.action_dim,
            c.critic_hidden or c.hidden,
            c.critics,
            c.layer_norm,
            activation="gelu",
            norm_after=True,
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers["critic"] = adam(self.critic.parameters(), c.critic_learning_rate)

    def _update(self, batch: Batch) -> Metrics:
        target = self.target(batch)
        metrics = self._step_policy(batch)
        return metrics | self._step_critic(batch, target)

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics, the target critics moving towards them as they were; what acts is frozen."""
        return self._step_critic(batch, self.target(batch))

    @abstractmethod
    def _step_policy(self, batch: Batch) -> Metrics:
        """Take one step of all but the critics."""

    def _step_critic(self, batch: Batch, target: Tensor) -> Metrics:
        loss, q = self.critic_loss(batch, target)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        descend(self.optimizers["critic"], loss)
        return {"critic/loss": loss.detach(), "critic/q": q.mean()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return ``r + γ^h (1 − d) Q_target(s', a')`` ``[B]``."""
        observations = self.normalizer(batch.next_observations)
        values = self.target_critic(observations, self.next_actions(observations))
        following = values.amin(-2) if self.config.target_q == "minimum" else values.mean(-2)
        return batch.rewards + self.discounts(batch) * following.masked_fill(batch.terminated, 0)

    @abstractmethod
    def next_actions(self, observations: Tensor) -> Tensor:
        """Return the actions ``[B, action_dim]`` that normalised next observations are valued by."""

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the temporal-difference loss ``[]``, summed over members, and Q ``[members, B]``, detached."""
        q = self.critic(self.normalizer(batch.observations), batch.actions)
        return (target - q).square().mean(-1).sum(-1), q.detach()
