"""Flow Q-learning, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.balance import make_balance
from balrl.agents.flow_agent import FlowAgent
from balrl.agents.hyperparameters import FQLConfig
from balrl.balance import Balance
from balrl.batch import Batch
from balrl.checkpoint import BALANCE, CRITIC, POLICY, TARGET_CRITIC, Carried
from balrl.flows import VelocityField, euler, flow_matching_loss
from balrl.optim import adam, descend
from balrl.policies import OneStepPolicy

FLOW = Carried("flow", "policy", "behaviour flow", optional=True)


class FQL(FlowAgent):
    """Flow Q-learning (Park, Li and Levine, arXiv 2502.02538).

    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) mean_j Q_target,j(s', μ(s', z)) − Q_i(s, a))² ]`` with ``z ~ N(0, I)``.
    - Behaviour flow: ``L_v = E[ (v(s, (1 − t) x₀ + t a, t) − (a − x₀))² ]``, ``x₀ ~ N(0, I)``, ``t ~ U(0, 1)``.
    - Policy, one step in place of the flow's many:
      ``L_μ = E[ (μ(s, z) − Euler(v, s, z))² − w · mean_i Q_i(s, clip μ(s, z)) / mean|mean_i Q_i| ]``, squares averaged
      over action dimensions, the flow's action detached.

    All losses are of the same parameters, as in the authors' release, and so is what the target critics move towards:
    an update changes everything at once. The weight w comes from the balance and is the paper's ``1/α``:
    ``FixedBalance(0.1)`` is FQL with ``α = 10``. With ``normalize_q`` off Q is not divided by its mean magnitude, as
    the paper has it for rewards whose scale is known. With a state-adaptive balance the policy becomes a family, and
    what it is held to stays one flow.
    """

    config_type: ClassVar[type[FQLConfig]] = FQLConfig
    carried: ClassVar[tuple[Carried, ...]] = (POLICY, BALANCE, FLOW, CRITIC, TARGET_CRITIC)
    config: FQLConfig
    policy: OneStepPolicy
    balance: Balance

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return OneStepPolicy.kind

    def _build(self, c: FQLConfig) -> None:
        observation_dim, action_dim = self.spaces.observation_dim, self.spaces.action_dim
        self.balance = make_balance(c.balance, observation_dim)
        self.flow = VelocityField(observation_dim, action_dim, c.hidden, c.policy_layer_norm)
        self.policy = OneStepPolicy(
            observation_dim + self.balance.embedding_dim, action_dim, c.hidden, c.policy_layer_norm
        )
        self.optimizers = {
            "flow": adam(self.flow.parameters(), c.policy_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
        }
        self._build_critics(c)

    def _step_policy(self, batch: Batch) -> Metrics:
        observations = self.normalizer(batch.observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        flow_loss = flow_matching_loss(self.flow, observations, batch.actions, self.stream, batch.played).mean()
        loss, distance = self.policy_loss(observations, balance)
        metrics: Metrics = {}
        if self.phase_updates % self.balance.every == 0:
            metrics = self.balance.update(observations, lambda b: self.improvement(observations, b), self.stream)
        descend(self.optimizers["policy"], loss)
        descend(self.optimizers["flow"], flow_loss)
        return metrics | {
            "flow/loss": flow_loss.detach(),
            "policy/loss": loss.detach(),
            "policy/distance": distance,
        }

    def next_actions(self, observations: Tensor) -> Tensor:
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        return self.policy.sample(self.balance.condition(observations, balance), self.stream)[0]

    def policy_loss(self, observations: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy loss ``[]`` for balances ``[B]``, and the mean squared distance from the flow ``[]``."""
        noise = self.stream.normal(*observations.shape[:-1], self.spaces.action_dim, dtype=observations.dtype)
        with torch.no_grad():
            behaviour = euler(self.flow, observations, noise, self.config.flow_steps)
        chosen = self.policy(self.balance.condition(observations, balance), noise)
        squares = (chosen - behaviour).square().mean(-1)
        q = self.critic(observations, chosen.clamp(-1, 1)).mean(-2)
        scale = q.detach().abs().mean() if self.config.normalize_q else 1.0
        return (squares - self.balance.weight(balance) * q / scale).mean(), squares.detach().mean()

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return ``Q(s, μ(s, z, β))`` ``[members, B]``, differentiable in β ``[B]``."""
        actions, _ = self.policy.sample(self.balance.condition(observations, balance), self.stream)
        return self.critic(observations, actions)
