"""TD3+BC, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics, Phase
from balrl.agents.balance import make_balance
from balrl.agents.hyperparameters import TD3BCConfig
from balrl.balance import Balance
from balrl.batch import Batch
from balrl.checkpoint import BALANCE, CRITIC, POLICY, TARGET_CRITIC, Carried
from balrl.config import AgentConfig
from balrl.networks import QEnsemble, polyak_update
from balrl.optim import adam, descend
from balrl.policies import DeterministicPolicy

TARGET_POLICY = Carried("target_policy", "policy", "target policy", optional=True)


class TD3BC(Agent):
    """TD3+BC (Fujimoto and Gu, arXiv 2106.06860; TD3: arXiv 1802.09477).

    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) min_j Q_target,j(s', ã) − Q_i(s, a))² ]`` with
      ``ã = clip(π_target(s') + clip(ε, ± 0.5), ± 1)``, ``ε ~ N(0, 0.2²)``.
    - Policy, every second update, with the new critics:
      ``L_π = E[ −α Q_1(s, π(s)) / mean|Q_1| + mean over action dimensions (π(s) − a)² ]``; then all targets move.

    α comes from the balance: ``FixedBalance(2.5)`` is TD3+BC; with a selective one the distance is weighted by 1/α(s)
    in place of Q by α (arXiv 2505.19923). With a state-adaptive one each state that a loss visits
    gets its own α (arXiv 2310.17966), the policy sees its embedding, and the balance model is updated before the
    policy, on the new critics.
    """

    config_type: ClassVar[type[AgentConfig]] = TD3BCConfig
    carried: ClassVar[tuple[Carried, ...]] = (POLICY, BALANCE, TARGET_POLICY, CRITIC, TARGET_CRITIC)
    config: TD3BCConfig
    policy: DeterministicPolicy
    critic: QEnsemble
    balance: Balance

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return DeterministicPolicy.kind

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        return ("trusted",) if self.config.balance.kind == "selective" and phase == "offline" else ()

    def _build(self, c: TD3BCConfig) -> None:
        observation_dim, action_dim = self.normalizer.output_dim, self.spaces.action_dim
        self.balance = make_balance(c.balance, observation_dim)
        self.policy = DeterministicPolicy(observation_dim + self.balance.embedding_dim, action_dim, c.hidden, c.dropout)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.critic = self._make_critic(c)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            "critic": adam(self.critic.parameters(), c.critic_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
        }

    def _make_critic(self, c: TD3BCConfig) -> QEnsemble:
        dims = self.normalizer.output_dim, self.spaces.action_dim
        return QEnsemble(*dims, c.critic_hidden or c.hidden, c.critics, c.layer_norm)

    @property
    def variant(self) -> tuple[Hashable, ...]:
        return self.phase, self.phase_length, self.phase_updates % (self.config.policy_every * self.balance.every)

    def _update(self, batch: Batch) -> Metrics:
        metrics = self._step_critic(batch)
        if self.phase_updates % self.config.policy_every == 0:
            metrics |= self.update_policy(batch)
        return metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics and move the target critics towards them, the policies frozen."""
        metrics = self._step_critic(batch)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return metrics

    def _step_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics; in an update their targets move with the policy."""
        loss, q = self.critic_loss(batch)
        descend(self.optimizers["critic"], loss)
        return {"critic/loss": loss.detach(), "critic/q": q.mean()}

    def update_policy(self, batch: Batch) -> Metrics:
        """Take one step of the balance model where it is due and of the policy, and move all targets."""
        observations = self.normalizer(batch.observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        metrics: Metrics = {}
        if self.phase_updates % (self.config.policy_every * self.balance.every) == 0:
            metrics = self.balance.update(observations, lambda b: self.improvement(observations, b), self.stream)
        if self.phase == "offline":
            slack = partial(self.slack, observations, batch.actions)
            metrics |= self.balance.adapt(observations, slack, batch.trusted, self.clock, self.phase_length)
        loss, error = self.policy_loss(observations, batch.actions, balance)
        loss = self.anchored(loss, lambda: self.balance.condition(observations, balance))
        descend(self.optimizers["policy"], loss)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        polyak_update(self.target_policy, self.policy, self.config.polyak)
        return metrics | {"policy/loss": loss.detach(), "policy/error": error}

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the temporal-difference loss ``[]``, summed over members, and Q ``[members, B]``, detached."""
        following = self.next_value(batch).masked_fill(batch.terminated, 0)
        q = self.critic(self.normalizer(batch.observations), batch.actions)
        loss = (batch.rewards + self.discounts(batch) * following - q).square().mean(-1).sum(-1)
        return loss, q.detach()

    @torch.no_grad()
    def next_value(self, batch: Batch) -> Tensor:
        """Return ``min_j Q_target,j(s', ã)`` ``[B]`` at the target policy's action with clipped noise."""
        observations = self.normalizer(batch.next_observations)
        actions = self._next_actions(observations)
        return self._constrained(self.target_critic(observations, actions).amin(-2), actions, batch)

    def _next_actions(self, observations: Tensor) -> Tensor:
        """Return the target policy's actions with clipped noise, for normalised next observations."""
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        actions = self.target_policy(self.balance.condition(observations, balance))
        noise = self.config.target_noise * self.stream.normal(*actions.shape, dtype=actions.dtype)
        clip = self.config.target_noise_clip
        return (actions + noise.clamp(-clip, clip)).clamp(-1, 1)

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return ``Q(s, π(s, β))`` ``[members, B]``, differentiable in β ``[B]``."""
        return self.critic(observations, self.policy(self.balance.condition(observations, balance)))

    def policy_loss(self, observations: Tensor, actions: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy loss ``[]`` for balances ``[B]``, and the mean squared distance from the data ``[]``."""
        chosen = self.policy(self.balance.condition(observations, balance), self.stream)
        q = self._policy_q(observations, chosen)
        squares = (chosen - actions).square()
        held = self.balance.constraint(self._penalty(squares), observations)
        loss = held - self.balance.weight(balance) * q / q.detach().abs().mean()
        return loss.mean(), squares.detach().mean()

    @torch.no_grad()
    def slack(self, observations: Tensor, actions: Tensor, bound: Tensor) -> Tensor:
        """Return ``(0.1 n)² − mean over action dimensions min((π(s) − a)², 1)`` ``[B]`` for a bound n ``[]``."""
        chosen = self.policy(
            self.balance.condition(observations, self.balance.sample(observations, False, self.stream))
        )
        return 0.01 * bound.square() - (chosen - actions).square().clamp(max=1).mean(-1)

    @torch.no_grad()
    def explore(self, observations: Tensor, balance: Tensor | None = None) -> Tensor:
        actions = self.act(observations, balance=balance)
        noise = self.config.exploration_noise * self.stream.normal(*actions.shape, dtype=actions.dtype)
        return (actions + noise).clamp(-1, 1)

    def _policy_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the Q ``[B]`` that the policy climbs: the first critic's."""
        return self.critic(observations, actions).select(-2, 0)

    def _penalty(self, squares: Tensor) -> Tensor:
        """Return the constraint ``[B]`` of squared distances ``[B, action_dim]`` from the data's actions."""
        return squares.mean(-1)

    def _constrained(self, value: Tensor, actions: Tensor, batch: Batch) -> Tensor:
        """Return the next states' value ``[B]``, less what the critics are charged for leaving the data."""
        return value
