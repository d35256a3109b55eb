"""Soft actor-critic with an ensemble of critics; REDQ, RLPD and WSRL's online agent are settings of it."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from balrl.agent import Agent, Metrics
from balrl.agents.balance import make_balance
from balrl.agents.hyperparameters import SACConfig, SoftActorCriticConfig
from balrl.balance import Balance
from balrl.batch import Batch
from balrl.checkpoint import BALANCE, CRITIC, POLICY, TARGET_CRITIC, Carried
from balrl.config import AgentConfig
from balrl.networks import ORTHOGONAL_GAIN, QEnsemble, polyak_update
from balrl.optim import adam, coast, descend
from balrl.policies import StochasticPolicy, make_policy

TEMPERATURE = Carried("log_temperature", "policy", "temperature", optional=True)


class SAC(Agent):
    """Soft actor-critic (Haarnoja et al., arXiv 1801.01290 and 1812.05905).

    - Critics: ``L_Q = Σ_i E[ (r + γ (1 − d) (min_j Q_target,j(s', a') − α log π(a'|s')) − Q_i(s, a))² ]``; ``j`` runs
      over all members, or over a random subset that is drawn anew for every update (REDQ, arXiv 2101.05982).
    - Policy: ``L_π = E[ α log π(a|s) − β min_i Q_i(s, a) ]``, ``a ~ π`` reparameterised, with the new critics; the
      mean over all members in place of their minimum is an option.
    - Temperature: ``L_α = −log α · (log π(a|s) + H_target)``, from the policy step's own sample.

    β comes from the balance: ``FixedBalance(1.0)`` is SAC. With a state-adaptive one each state that a loss visits gets
    its own β, uniform in the offline phase and from the balance model online (arXiv 2310.17966).
    """

    config_type: ClassVar[type[AgentConfig]] = SACConfig
    carried: ClassVar[tuple[Carried, ...]] = (POLICY, BALANCE, TEMPERATURE, CRITIC, TARGET_CRITIC)
    config: SoftActorCriticConfig
    policy: StochasticPolicy
    critic: QEnsemble
    balance: Balance

    def _build(self, c: SoftActorCriticConfig) -> None:
        self.target_entropy = (
            c.target_entropy_per_dimension * self.spaces.action_dim if c.target_entropy is None else c.target_entropy
        )
        self.balance = make_balance(c.balance, self.state_dim)
        gain = ORTHOGONAL_GAIN if c.last_hidden_gain is None else c.last_hidden_gain
        self.critic = self._make_critic(c, gain)
        own: dict[str, Any] = {} if c.policy == "gaussian" else {"state_dependent_std": c.state_dependent_std}
        own |= {"log_std_range": c.log_std_range, "layer_norm": c.policy_layer_norm, "last_gain": gain}
        own |= {"activation": c.activation}
        self.policy = self._make_policy(c, self.state_dim + self.balance.embedding_dim, own)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(c.initial_temperature)))
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = {
            "critic": adam(self.critic.parameters(), c.critic_learning_rate),
            **self.balance.optimizers,
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
            "temperature": adam([self.log_temperature], c.temperature_learning_rate),
        }

    @property
    def state_dim(self) -> int:
        """Width of what policy and balance model know of a state."""
        return self.normalizer.output_dim

    def _make_policy(self, c: SoftActorCriticConfig, input_dim: int, settings: dict[str, Any]) -> StochasticPolicy:
        made = make_policy(c.policy, input_dim, self.spaces.action_dim, c.hidden, **settings)
        return cast(StochasticPolicy, made)

    def _make_critic(self, c: SoftActorCriticConfig, gain: float) -> QEnsemble:
        dims = self.spaces.observation_dim, self.spaces.action_dim
        return QEnsemble(*dims, c.critic_hidden or c.hidden, c.critics, c.layer_norm, gain, c.activation)

    def _update(self, batch: Batch) -> Metrics:
        return self._step(batch, 1)

    def update_utd(self, batch: Batch, utd: int) -> Metrics:
        """Take `utd` critic steps, each on its own B of ``utd · B`` rows, and then one policy step.

        The policy's step sees the critics after their steps, and all rows (or the last B, by `policy_batch`).
        """
        self._count(utd)
        metrics = self._step(batch, utd)
        self._average()
        return metrics

    def _step(self, batch: Batch, utd: int) -> Metrics:
        parts = batch.split(utd)
        metrics: Metrics = {}
        for part in parts:
            metrics = self.update_critic(part)
            if utd > 1 and self.config.coasting:
                coast(self.optimizers["policy"])
                coast(self.optimizers["temperature"])
        metrics |= self.update_policy(batch if self.config.policy_batch == "all" else parts[-1])
        if utd > 1 and self.config.coasting:
            coast(self.optimizers["critic"])
        return metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics and move the target critics towards them."""
        loss, metrics = self.critic_loss(batch)
        descend(self.optimizers["critic"], loss)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return metrics

    def update_policy(self, batch: Batch) -> Metrics:
        """Take one step of the balance model where it is due, of the policy and of the temperature."""
        observations = self.normalizer(batch.observations)
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        balance_metrics = self.update_balance(observations, batch)
        loss, log_prob = self.policy_loss(observations, balance)
        loss = self.anchored(loss, lambda: self.balance.condition(observations, balance))
        descend(self.optimizers["policy"], loss)
        descend(self.optimizers["temperature"], self.temperature_loss(log_prob))
        return {
            "policy/loss": loss.detach(),
            "policy/entropy": -log_prob.mean(),
            "policy/temperature": self.temperature,
            **balance_metrics,
        }

    def update_balance(self, observations: Tensor, batch: Batch) -> Metrics:
        """Take one step of the balance model where it is due, for a batch's normalised observations."""
        if self.phase_updates % self.balance.every:
            return {}
        return self.balance.update(observations, lambda b: self.improvement(observations, b), self.stream)

    @property
    def temperature(self) -> Tensor:
        """α, detached."""
        return self.log_temperature.detach().exp()

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the critics' loss ``[]``, summed over members, and what is worth watching of it."""
        inputs = self._normalized(batch)
        following = self.next_value(inputs, self._random_members(self.config.target_subset))
        target = batch.rewards + self.discounts(batch) * following.masked_fill(batch.terminated, 0)
        q = self.critic(inputs.observations, batch.actions)
        loss = (target - q).square().mean(-1).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    @torch.no_grad()
    def next_value(self, batch: Batch, members: Tensor | None) -> Tensor:
        """Return the soft value ``[B]`` of a normalised batch's next observations under some of the target critics."""
        actions, log_prob = self._sample(self._next_inputs(batch))
        value = self.target_critic(batch.next_observations, self._perturbed(actions), members).amin(-2)
        return value - self.temperature * log_prob if self.config.backup_entropy else value

    def _perturbed(self, actions: Tensor) -> Tensor:
        """Return a target's actions with the clipped noise that fine-tuning adds (SO2, arXiv 2312.07685)."""
        c = self.config
        if not c.target_noise or self.phase == "offline":
            return actions
        noise = c.target_noise * self.stream.normal(*actions.shape, dtype=actions.dtype)
        return (actions + noise.clamp(-c.target_noise_clip, c.target_noise_clip)).clamp(-1, 1)

    def improvement(self, observations: Tensor, balance: Tensor) -> Tensor:
        """Return Q ``[members, B]`` at ``a ~ π(·|s, β)``, differentiable in β ``[B]``."""
        actions, _ = self._sample(self.balance.condition(observations, balance))
        return self.critic(observations, actions)

    def policy_loss(self, observations: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy loss ``[]`` for balances ``[B]``, and its actions' log-probabilities ``[B]``, detached."""
        actions, log_prob = self._sample(self.balance.condition(observations, balance))
        q = self._policy_q(observations, actions)
        return (self.temperature * log_prob - self.balance.weight(balance) * q).mean(), log_prob.detach()

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        """Return the temperature's loss ``[]`` for log-probabilities ``[B]``."""
        return -(self.log_temperature * (log_prob + self.target_entropy)).mean()

    def _sample(self, inputs: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return actions in [-1, 1] and log-probabilities; a policy that is not squashed keeps the unclipped ones."""
        actions, log_prob = self.policy.sample(inputs, self.stream, count)
        return actions.clamp(-1, 1), log_prob

    def _policy_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        q = self.critic(observations, actions)
        return q.mean(-2) if self.config.policy_q == "mean" else q.amin(-2)

    def _normalized(self, batch: Batch) -> Batch:
        """Return a batch with what the networks see for observations."""
        return batch._replace(
            observations=self.normalizer(batch.observations),
            next_observations=self.normalizer(batch.next_observations),
        )

    def _next_inputs(self, batch: Batch) -> Tensor:
        """Return the policy's input for a normalised batch's next observations."""
        return self._conditioned(batch.next_observations)

    def _conditioned(self, observations: Tensor) -> Tensor:
        """Return the policy's input for normalised observations, each with a fresh balance of its own."""
        balance = self.balance.sample(observations, self.phase == "online", self.stream)
        return self.balance.condition(observations, balance)

    def _random_members(self, count: int | None) -> Tensor | None:
        """Draw some of the critics; None means all of them."""
        if count is None or count == self.config.critics:
            return None
        if self.config.subset_replacement:
            return self.stream.integers(self.config.critics, count)
        return self.stream.subset(count, self.config.critics)
