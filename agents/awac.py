"""Advantage-weighted actor-critic, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics
from balrl.agents.balance import make_balance
from balrl.agents.hyperparameters import AWACConfig
from balrl.balance import Balance
from balrl.batch import Batch
from balrl.checkpoint import BALANCE, CRITIC, POLICY, TARGET_CRITIC
from balrl.networks import QEnsemble, polyak_update
from balrl.optim import adam, descend
from balrl.policies import GaussianPolicy


class AWAC(Agent):
    """Advantage-weighted actor-critic (Nair et al., arXiv 2006.09359).

    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) min_j Q_target,j(s', a') − Q_i(s, a))² ]``, ``a' ~ π(·|s')``.
    - Policy, with the new critics: ``L_π = −E[ min(exp(β A), 100) · log π(a|s, β) ]``,
      ``A = min_i Q_i(s, a) − min_i Q_i(s, ã)``, ``ã ~ π(·|s, β)``; sampled actions are clipped to the bounds.

    β = 1/λ comes from the balance. With a state-adaptive one it differs per sample, as in FamO2O-IQL
    (arXiv 2310.17966).
    """

    config_type = AWACConfig
    carried = (POLICY, BALANCE, CRITIC, TARGET_CRITIC)
    config: AWACConfig
    policy: GaussianPolicy
    critic: QEnsemble
    balance: Balance

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return GaussianPolicy.kind

    def _build(self, c: AWACConfig) -> None:
        observation_dim, action_dim = self.spaces.observation_dim, self.spaces.action_dim
        self.balance = make_balance(c.balance, observation_dim)
        self.policy = GaussianPolicy(
            observation_dim + self.balance.embedding_dim, action_dim, c.hidden, c.log_std_range, c.dropout
        )
        self.critic = QEnsemble(observation_dim, action_dim, c.hidden, c.critics, c.layer_norm)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            "critic": adam(self.critic.parameters(), c.critic_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
        }

    def _update(self, batch: Batch) -> Metrics:
        metrics = self.update_critic(batch)
        observations = self.normalizer(batch.observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        if self.phase_updates % self.balance.every == 0:
            metrics |= self.balance.update(observations, lambda b: self.improvement(observations, b), self.stream)
        advantages = self.advantages(observations, batch.actions, balance)
        loss = self.policy_loss(observations, batch.actions, advantages, balance)
        loss = self.anchored(loss, lambda: self.balance.condition(observations, balance))
        descend(self.optimizers["policy"], loss)
        return metrics | {"policy/loss": loss.detach(), "policy/advantage": advantages.mean()}

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics and move the target critics towards them."""
        loss, q = self.critic_loss(batch)
        descend(self.optimizers["critic"], loss)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return {"critic/loss": loss.detach(), "critic/q": q.mean()}

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the temporal-difference loss ``[]``, summed over members, and Q ``[members, B]``, detached."""
        following = self.next_value(batch).masked_fill(batch.terminated, 0)
        q = self.critic(self.normalizer(batch.observations), batch.actions)
        loss = (batch.rewards + self.discounts(batch) * following - q).square().mean(-1).sum(-1)
        return loss, q.detach()

    @torch.no_grad()
    def next_value(self, batch: Batch) -> Tensor:
        """Return ``min_j Q_target,j(s', a')`` ``[B]`` at sampled next actions."""
        observations = self.normalizer(batch.next_observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        return self.target_critic(observations, self._sample(observations, balance)).amin(-2)

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return ``Q(s, a)`` ``[members, B]`` at ``a ~ π(·|s, β)``, differentiable in β ``[B]``."""
        return self.critic(observations, self._sample(observations, balance))

    @torch.no_grad()
    def advantages(self, observations: Tensor, actions: Tensor, balance: Tensor) -> Tensor:
        """Return ``min_i Q_i(s, a) − min_i Q_i(s, ã)`` ``[B]`` with one action of the policy's own per state."""
        own = self.critic(observations, self._sample(observations, balance)).amin(-2)
        return self.critic(observations, actions).amin(-2) - own

    def policy_loss(self, observations: Tensor, actions: Tensor, advantages: Tensor, balance: Tensor) -> Tensor:
        """Return the advantage-weighted regression loss ``[]``; advantages and balance are ``[B]``."""
        weights = (self.balance.weight(balance) * advantages).exp().clamp(max=self.config.max_weight)
        inputs = self.balance.condition(observations, balance)
        return -(weights * self.policy.log_prob(inputs, actions, dropout=self.stream)).mean()

    def _sample(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return actions ``[B, action_dim]`` of the policy under balances ``[B]``, clipped to the bounds."""
        actions, _ = self.policy.sample(self.balance.condition(observations, balance), self.stream)
        return actions.clamp(-1, 1)
