"""Implicit Q-learning, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics
from balrl.agents.balance import make_balance
from balrl.agents.hyperparameters import IQLConfig
from balrl.balance import Balance
from balrl.batch import Batch
from balrl.checkpoint import BALANCE, CRITIC, POLICY, TARGET_CRITIC, VALUE
from balrl.networks import QEnsemble, Value, polyak_update
from balrl.optim import adam, anneal, descend
from balrl.policies import GaussianPolicy, normal_log_prob


class IQL(Agent):
    """Implicit Q-learning (Kostrikov et al., arXiv 2110.06169).

    - Value: ``L_V = E[ |τ − 1(u < 0)| u² ]``, ``u = min_i Q_target,i(s, a) − V(s)``.
    - Policy: ``L_π = −E[ min(exp(β u), 100) · log π(a|s, β) ]`` with the new V.
    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) V(s') − Q_i(s, a))² ]`` with the new V; then polyak averaging.

    With ``extraction="ddpg-bc"`` the policy climbs Q instead (Park et al., arXiv 2406.09329), normalised as in TD3+BC:
    ``L_π = E[ ½ |μ(s, β) − a|² − β Q(s, μ(s, β)) / mean|Q| ]`` with ``Q = min_i Q_i`` and μ the policy's mean; its σ
    follows the data's likelihood, ``−log N(a; μ, σ)`` with μ detached. Values and critics are the same.

    β comes from the balance. With ``FixedBalance(3.0)`` this is IQL. With ``StateAdaptiveBalance(1.0, 5.0)`` it is
    FamO2O-IQL (arXiv 2310.17966): β differs per sample, the policy sees its embedding, and the balance model is updated
    between V and the policy, on the target critics; the policy's β is drawn from the balance model before that update.
    """

    config_type = IQLConfig
    carried = (POLICY, BALANCE, CRITIC, TARGET_CRITIC, VALUE)
    config: IQLConfig
    policy: GaussianPolicy
    critic: QEnsemble
    balance: Balance

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return GaussianPolicy.kind

    def _build(self, c: IQLConfig) -> None:
        observation_dim, action_dim = self.normalizer.output_dim, self.spaces.action_dim
        self.balance = make_balance(c.balance, observation_dim)
        self.policy = GaussianPolicy(
            observation_dim + self.balance.embedding_dim,
            action_dim,
            c.hidden,
            c.log_std_range,
            c.dropout,
        )
        self.value = self._make_value(c)
        self.critic = self._make_critic(c)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            "value": adam(self.value.parameters(), c.value_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate, scheduled=True),
            "critic": adam(self.critic.parameters(), c.critic_learning_rate),
        }

    def _make_value(self, c: IQLConfig) -> Value:
        return Value(self.normalizer.output_dim, c.hidden, c.layer_norm)

    def _make_critic(self, c: IQLConfig) -> QEnsemble:
        return QEnsemble(self.normalizer.output_dim, self.spaces.action_dim, c.hidden, c.critics, c.layer_norm)

    def _update(self, batch: Batch) -> Metrics:
        observations = self.normalizer(batch.observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        target_q, metrics = self._step_value(observations, batch.actions)

        if self.phase_updates % self.balance.every == 0:
            metrics |= self.balance.update(observations, lambda b: self.improvement(observations, b), self.stream)

        with torch.no_grad():
            advantages = target_q - self.value(observations)
        if self.config.extraction == "ddpg-bc":
            policy_loss = self.gradient_loss(observations, batch.actions, balance)
        else:
            policy_loss = self.policy_loss(observations, batch.actions, advantages, balance)
        cosine = self.config.policy_schedule == "cosine" and self.phase == "offline"
        anneal(
            self.optimizers["policy"],
            self.config.policy_learning_rate,
            self.clock - 1,
            self.phase_length if cosine else None,
        )
        policy_loss = self.anchored(policy_loss, lambda: self.balance.condition(observations, balance))
        descend(self.optimizers["policy"], policy_loss)
        metrics |= {"policy/loss": policy_loss.detach(), "policy/advantage": advantages.mean()}

        return metrics | self._step_critic(batch)

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of V and of the critics, the policy frozen."""
        _, metrics = self._step_value(self.normalizer(batch.observations), batch.actions)
        return metrics | self._step_critic(batch)

    def _step_value(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            target_q = self.target_critic(observations, actions).amin(-2)
        loss, value = self.value_loss(observations, target_q)
        descend(self.optimizers["value"], loss)
        return target_q, {"value/loss": loss.detach(), "value/mean": value.mean()}

    def _step_critic(self, batch: Batch) -> Metrics:
        loss, q = self.critic_loss(batch)
        descend(self.optimizers["critic"], loss)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return {"critic/loss": loss.detach(), "critic/q": q.mean()}

    def value_loss(self, observations: Tensor, target_q: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expectile loss ``[]`` towards ``target_q [B]`` and the values ``[B]``, detached."""
        value = self.value(observations)
        u = target_q - value
        weight = (self.config.expectile - (u < 0).to(u.dtype)).abs()
        return (weight * u.square()).mean(), value.detach()

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return ``Q_target(s, a)`` ``[members, B]`` at ``a ~ π(·|s, β)``, differentiable in β ``[B]``."""
        actions, _ = self.policy.sample(self.balance.condition(observations, balance), self.stream)
        return self.target_critic(observations, actions)

    def policy_loss(self, observations: Tensor, actions: Tensor, advantages: Tensor, balance: Tensor) -> Tensor:
        """Return the advantage-weighted regression loss ``[]``; advantages and balance are ``[B]``."""
        weights = (self.balance.weight(balance) * advantages).exp().clamp(max=self.config.max_weight)
        inputs = self.balance.condition(observations, balance)
        return -(weights * self.policy.log_prob(inputs, actions, dropout=self.stream)).mean()

    def gradient_loss(self, observations: Tensor, actions: Tensor, balance: Tensor) -> Tensor:
        """Return the loss ``[]`` of a policy that climbs Q near the data (DDPG+BC); balances are ``[B]``."""
        mean, log_std = self.policy(self.balance.condition(observations, balance), self.stream)
        q = self.critic(observations, mean).amin(-2)
        improvement = self.balance.weight(balance) * q / q.detach().abs().mean()
        distance = 0.5 * (mean - actions).square().sum(-1)
        return (distance - improvement - normal_log_prob(actions, mean.detach(), log_std)).mean()

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the temporal-difference loss ``[]``, summed over members, and Q ``[members, B]``, detached."""
        q = self.critic(self.normalizer(batch.observations), batch.actions)
        return (self.td_target(batch) - q).square().mean(-1).sum(-1), q.detach()

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor:
        """Return ``r + γ (1 − d) V(s')`` ``[B]``."""
        value = self.value(self.normalizer(batch.next_observations)).masked_fill(batch.terminated, 0)
        return batch.rewards + self.discounts(batch) * value
