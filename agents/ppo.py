"""Proximal policy optimisation, with a penalty for leaving a reference policy."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from balrl.agent import Agent, Metrics, Phase
from balrl.agents.hyperparameters import PPOConfig
from balrl.batch import Batch
from balrl.checkpoint import POLICY, VALUE
from balrl.networks import Normalizer, RunningMoments, Value
from balrl.on_policy import RolloutBuffer
from balrl.optim import adam, descend
from balrl.policies import StochasticPolicy, make_policy, normal_entropy
from balrl.returns import generalized_advantages

ADAPTATION, LARGEST_ERROR = 0.1, 0.2
"""How fast a coefficient adapts, and the largest relative error that it adapts to (arXiv 1909.08593, section 2.2)."""


class PPO(Agent):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347), penalised as Ziegler et al. (arXiv 1909.08593).

    - Reward: ``r̃ = r − c (log π_old(a|s) − log π_ref(a|s))``; π_ref is the policy at the beginning of the online
      phase. c is fixed, or follows a target: ``c ← c (1 + 0.1 clip(KL / KL_target − 1, ±0.2))`` after every rollout.
    - Advantages: ``A_t = δ_t + γλ (1 − end_t) A_{t+1}``, ``δ_t = r̃_t + γ (1 − terminated_t) V(s'_t) − V(s_t)``; an
      episode that was cut off bootstraps from its true last observation (arXiv 1506.02438 and 1712.00378).
    - Policy: ``L_π = −E[ min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) ] − c_H H(π)``, ``ρ = π(a|s) / π_old(a|s)``.
    - Value: ``L_V = E[ (V(s) − (A + V_old(s)))² ]``.

    In the offline phase the policy imitates the data, ``L_π = −E[log π(a|s)]``, and becomes the reference.
    """

    config_type = PPOConfig
    carried = (POLICY, VALUE)
    on_policy = True
    config: PPOConfig
    policy: StochasticPolicy
    kl_coefficient: Tensor

    def _build(self, c: PPOConfig) -> None:
        observation_dim, action_dim = self.spaces.observation_dim, self.spaces.action_dim
        made = make_policy(c.policy, observation_dim, action_dim, c.hidden, log_std_range=c.log_std_range)
        self.policy = cast(StochasticPolicy, made)
        with torch.no_grad():
            self.policy.mean.weight.mul_(c.policy_head_scale)
            if isinstance(self.policy.log_std, torch.nn.Parameter):
                self.policy.log_std.fill_(c.initial_log_std)
        self.value = Value(observation_dim, c.hidden)
        self.reference_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.reference_normalizer = Normalizer(observation_dim)
        self.moments = RunningMoments(observation_dim)
        self.register_buffer("kl_coefficient", torch.tensor(c.kl_coefficient))
        self.optimizers = {
            "policy": adam(self.policy.parameters(), c.policy_learning_rate),
            "value": adam(self.value.parameters(), c.value_learning_rate),
        }

    @property
    def fits_normalizer(self) -> bool:
        return self.config.normalize_observations

    def rollout_buffer(self, num_envs: int, batch_size: int) -> RolloutBuffer:
        c, dims = self.config, (self.spaces.observation_dim, self.spaces.action_dim)
        return RolloutBuffer(c.rollout_steps, num_envs, *dims, c.epochs, batch_size, self.device)

    def set_phase(self, phase: Phase, length: int | None = None) -> None:
        """Enter a phase; with the online phase the policy becomes the reference."""
        super().set_phase(phase, length)
        if phase == "online":
            self.reference_policy.load_state_dict(self.policy.state_dict())
            self.reference_normalizer.load_state_dict(self.normalizer.state_dict())

    @torch.no_grad()
    def explore(self, observations: Tensor, balance: Tensor | None = None) -> Tensor:
        """Return samples of the policy ``[B, action_dim]`` as they were drawn; the task sees them within [-1, 1]."""
        samples: Tensor = self.policy.sample(self.normalizer(observations), self.stream)[0]
        return samples

    @torch.no_grad()
    def compute_advantages(self, rollouts: RolloutBuffer) -> Metrics:
        """Give every step of full rollouts its log-probability, advantage and value target; adapt the penalty."""
        taken, c = rollouts.taken, self.config
        flat = Batch(*(None if x is None else x.flatten(0, 1) for x in taken))  # type: ignore[arg-type]
        observations = self.normalizer(flat.observations)
        log_prob = self.policy.log_prob(observations, flat.actions)
        log_ratio = log_prob - self.reference_log_prob(flat)
        rewards = flat.rewards - self.kl_coefficient * log_ratio
        shape = taken.rewards.shape
        values = self.value(observations)
        advantages = generalized_advantages(
            rewards.view(shape),
            values.view(shape),
            self.value(self.normalizer(flat.next_observations)).view(shape),
            taken.terminated,
            rollouts.done,
            c.discount,
            c.gae_lambda,
        )
        rollouts.store(log_prob.view(shape), advantages, advantages + values.view(shape))
        valid = rollouts.valid
        kl = log_ratio.view(shape)[valid].mean()
        if c.kl_target is not None:
            error = (kl / c.kl_target - 1).clamp(-LARGEST_ERROR, LARGEST_ERROR)
            self.kl_coefficient.mul_(1 + ADAPTATION * error)
        if c.normalize_observations:  # what these rollouts are worth is known: the next rollouts see the new statistics
            self.moments.add(taken.observations[valid])
            self.normalizer.fit(self.moments.mean, self.moments.std)
        return {
            "reference/kl": kl,
            "reference/coefficient": self.kl_coefficient.clone(),
            "rollout/reward": taken.rewards[valid].mean(),
            "rollout/value": values.view(shape)[valid].mean(),
        }

    def reference_log_prob(self, batch: Batch) -> Tensor:
        """Return ``log π_ref(a|s)`` ``[B]``."""
        found: Tensor = self.reference_policy.log_prob(self.reference_normalizer(batch.observations), batch.actions)
        return found

    def _update(self, batch: Batch) -> Metrics:
        observations = self.normalizer(batch.observations)
        if self.phase == "offline":
            loss = -self.policy.log_prob(observations, batch.actions).mean()
            descend(self.optimizers["policy"], loss)
            return {"policy/loss": loss.detach()}
        policy_loss, metrics = self.policy_loss(observations, batch)
        value_loss = self.value_loss(observations, batch)
        descend(self.optimizers["policy"], policy_loss, self.config.max_gradient_norm)
        descend(self.optimizers["value"], value_loss, self.config.max_gradient_norm)
        return {"policy/loss": policy_loss.detach(), "value/loss": value_loss.detach(), **metrics}

    def policy_loss(self, observations: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the clipped loss ``[]`` of normalised observations ``[B, ·]`` and what is worth watching of it."""
        c, advantages = self.config, batch.advantages
        assert advantages is not None
        assert batch.log_probs is not None
        if c.normalize_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std(-1) + 1e-8)
        log_ratio = self.policy.log_prob(observations, batch.actions) - batch.log_probs
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        entropy = normal_entropy(self.policy(observations)[1].expand_as(batch.actions)).mean()
        loss = -torch.minimum(ratio * advantages, clipped * advantages).mean() - c.entropy_coefficient * entropy
        return loss, {
            "policy/entropy": entropy.detach(),
            "policy/clipped": ((ratio.detach() - 1).abs() > c.clip).float().mean(),
            "policy/kl_to_old": (ratio.detach() - 1 - log_ratio.detach()).mean(),
        }

    def value_loss(self, observations: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error ``[]`` of the values."""
        assert batch.value_targets is not None
        return (self.value(observations) - batch.value_targets).square().mean()
