"""Soft actor-critic."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from balrl.agents.balance import make_balance
from balrl.agents.base import Agent, Metrics
from balrl.agents.config import SACConfig
from balrl.agents.optim import adam, descend
from balrl.batch import Batch
from balrl.networks import QEnsemble, polyak_update
from balrl.policies import TanhGaussianPolicy


class SAC(Agent):
    """Soft actor-critic (Haarnoja et al., arXiv 1801.01290 and 1812.05905).

    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) (min_j Q_target,j(s', a') − α log π(a'|s')) − Q_i(s, a))² ]``.
    - Policy: ``L_π = E[ α log π(a|s) − β min_i Q_i(s, a) ]``, ``a ~ π`` reparameterised, with the new critics.
    - Temperature: ``L_α = −log α · (log π(a|s) + H_target)``, from the policy step's own sample.

    β comes from the balance: ``FixedBalance(1.0)`` is SAC. With a state-adaptive one each state that a loss visits gets
    its own β, uniform in the offline phase and from the balance model online (arXiv 2310.17966).
    """

    config_type = SACConfig

    def _build(self, c: SACConfig) -> None:
        observation_dim, action_dim = self.spaces.observation_dim, self.spaces.action_dim
        self.target_entropy = -float(action_dim) if c.target_entropy is None else c.target_entropy
        self.balance = make_balance(c.balance, observation_dim)
        self.critic = QEnsemble(observation_dim, action_dim, c.hidden, c.critics, c.layer_norm)
        self.policy = TanhGaussianPolicy(
            observation_dim + self.balance.embedding_dim, action_dim, c.hidden, c.log_std_range
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(c.initial_temperature)))
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            "critic": adam(self.critic.parameters(), c.critic_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
            "temperature": adam([self.log_temperature], c.temperature_learning_rate),
        }

    def _update(self, batch: Batch) -> Metrics:
        observations = self.normalizer(batch.observations)
        next_observations = self.normalizer(batch.next_observations)
        online = self.phase == "online"
        balance = self.balance.sample(observations, online)

        critic_loss, q = self.critic_loss(
            observations, batch.actions, batch.rewards, next_observations, batch.terminated
        )
        descend(self.optimizers["critic"], critic_loss)

        balance_metrics = {}
        if self.phase_updates % self.balance.every == 0:
            balance_metrics = self.balance.update(observations, lambda b: self.improvement(observations, b))

        policy_loss, log_prob = self.policy_loss(observations, balance)
        descend(self.optimizers["policy"], policy_loss)
        temperature_loss = self.temperature_loss(log_prob)
        descend(self.optimizers["temperature"], temperature_loss)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return {
            "critic/loss": critic_loss.detach(),
            "critic/q": q.mean((-2, -1)),
            "policy/loss": policy_loss.detach(),
            "policy/entropy": -log_prob.mean(-1),
            "policy/temperature": self.temperature,
            **balance_metrics,
        }

    @property
    def temperature(self) -> Tensor:
        """α, detached."""
        return self.log_temperature.detach().exp()

    def critic_loss(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_observations: Tensor,
        terminated: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the soft temporal-difference loss ``[]``, summed over members, and Q ``[members, B]``, detached."""
        with torch.no_grad():
            next_balance = self.balance.sample(next_observations, self.phase == "online")
            inputs = self.balance.condition(next_observations, next_balance)
            next_actions, log_prob = self.policy.sample(inputs)
            next_value = self.target_critic(next_observations, next_actions).amin(-2)
            if self.config.backup_entropy:
                next_value = next_value - self.temperature * log_prob
            target = rewards + self.config.discount * next_value.masked_fill(terminated, 0)
        q = self.critic(observations, actions)
        return (target - q).square().mean(-1).sum(-1), q.detach()

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return ``min_i Q_i(s, a)`` ``[B]`` at ``a ~ π(·|s, β)``, differentiable in β ``[B]``."""
        actions, _ = self.policy.sample(self.balance.condition(observations, balance))
        return self.critic(observations, actions).amin(-2)

    def policy_loss(self, observations: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy loss ``[]`` for balances ``[B]``, and its actions' log-probabilities ``[B]``, detached."""
        actions, log_prob = self.policy.sample(self.balance.condition(observations, balance))
        q = self.critic(observations, actions).amin(-2)
        return (self.temperature * log_prob - balance * q).mean(-1), log_prob.detach()

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        """Return the temperature's loss ``[]`` for log-probabilities ``[B]``."""
        return -(self.log_temperature * (log_prob + self.target_entropy)).mean(-1)
