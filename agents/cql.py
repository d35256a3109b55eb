"""Conservative Q-learning, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from balrl.agent import Metrics, Phase
from balrl.agents.hyperparameters import CQLConfig
from balrl.agents.sac import SAC
from balrl.batch import Batch
from balrl.checkpoint import Carried
from balrl.optim import adam, descend, in_blocks
from balrl.policies import normal_log_prob, tanh_log_det

PENALTY_WEIGHT = Carried("raw_alpha", "critic", "penalty weight", optional=True)
MAX_ALPHA = 1e6


class CQL(SAC):
    """CQL(H) (Kumar et al., arXiv 2006.04779): soft actor-critic whose critics are pushed down where the data is not.

    ``L_Q = Σ_i ( E[(target − Q_i(s, a))²] + α · E[ T · log Σ_a' exp(Q̃_i(s, a') / T) − Q_i(s, a) ] )``

    Per state, a' runs over n uniform actions, n from π(s) and n from π(s'), all evaluated at s. With importance
    sampling ``Q̃ = Q − log μ(a')``, μ being the density that a' was drawn from (``0.5^dim`` for the uniform ones);
    without, the data's action joins the sum and ``T · log(3n + 1)`` is subtracted.

    - Applied to k random members only, the penalty is multiplied by members/k: the expected loss is the same.
    - The target can take the best of several sampled next actions.
    - With a target gap, α is learned: the term is ``α · (penalty − gap)`` and ``L_α = −α · (penalty − gap)``.
    - A selective balance weights each state's penalty (arXiv 2505.19923), in α's place: α is then 1.
    - In the online phase the penalty stays, or is dropped (`conservative_online`): what is left is soft actor-critic.
    """

    config_type = CQLConfig
    carried = (*SAC.carried, PENALTY_WEIGHT)
    config: CQLConfig

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        return ("trusted",) if self.config.balance.kind == "selective" and phase == "offline" else ()

    def _build(self, c: CQLConfig) -> None:  # type: ignore[override]
        super()._build(c)
        if c.target_gap is not None:
            start = math.log(math.expm1(c.alpha)) if c.alpha_form == "softplus" else 1.0
            self.raw_alpha = nn.Parameter(torch.tensor(start))
            self.optimizers["alpha"] = adam([self.raw_alpha], c.alpha_learning_rate)

    @property
    def is_conservative(self) -> bool:
        """Whether the penalty applies in the present phase."""
        return self.phase == "offline" or self.config.conservative_online

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics, and of α where it is learned."""
        metrics = super().update_critic(batch)
        if self.is_conservative and self.config.target_gap is not None:
            descend(self.optimizers["alpha"], self.alpha_loss(metrics["critic/penalty"]))
        return metrics

    def update_balance(self, observations: Tensor, batch: Batch) -> Metrics:
        metrics = super().update_balance(observations, batch)
        if self.phase == "offline":
            slack = partial(self.slack, observations, batch.actions)
            metrics |= self.balance.adapt(observations, slack, batch.trusted, self.clock, self.phase_length)
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().critic_loss(batch)
        if not self.is_conservative:
            return loss, metrics
        penalty, alpha = self.penalty(batch), self.alpha().detach()
        metrics |= {"critic/penalty": penalty.detach(), "critic/alpha": alpha}
        excess = penalty if self.config.target_gap is None else penalty - self.config.target_gap
        return loss + alpha * self.config.critics * excess, metrics

    def penalty(self, batch: Batch) -> Tensor:
        """Return the conservative penalty ``[]``, averaged over rows and over the members that it is applied to."""
        members = self._random_members(self.config.penalty_members)
        inputs = self._normalized(batch)
        actions, log_density = self._sampled_actions(inputs)
        count, rows, _ = actions.shape
        return in_blocks(
            lambda part: self._penalty_at(inputs.rows(part), actions[:, part], log_density[:, part], members),
            rows,
            count,
            list(self.critic.parameters()),
        )

    def _penalty_at(self, batch: Batch, actions: Tensor, log_density: Tensor, members: Tensor | None) -> Tensor:
        """Return a normalised batch's penalty ``[]``; sampled actions are ``[3n, B, ·]``, log-densities ``[3n, B]``."""
        c, observations = self.config, batch.observations
        data_q = self.critic(observations, batch.actions, members)
        count, rows, action_dim = actions.shape
        repeated = observations.expand(count, *observations.shape).reshape(count * rows, -1)
        q = self.critic(repeated, actions.reshape(count * rows, action_dim), members).unflatten(-1, (count, rows))
        q = self.calibrate(q, batch)
        temperature = c.penalty_temperature
        if c.importance_sampling:
            pushed = temperature * torch.logsumexp((q - log_density) / temperature, -2)
        else:
            everything = torch.cat([q, data_q.unsqueeze(-2)], -2)
            pushed = temperature * (torch.logsumexp(everything / temperature, -2) - math.log(count + 1))
        return self.balance.constraint(pushed - data_q, observations).mean()

    def calibrate(self, q: Tensor, batch: Batch) -> Tensor:
        """Return the sampled actions' Q ``[k, 3n, B]`` (n uniform, then n from π(s), then n from π(s')) unchanged."""
        return q

    def alpha(self) -> Tensor:
        """Return the weight of the penalty ``[]``, differentiable where it is learned."""
        if self.config.target_gap is None:
            return torch.zeros((), device=self.device) + self.config.alpha
        if self.config.alpha_form == "softplus":
            return nn.functional.softplus(self.raw_alpha)
        return self.raw_alpha.exp().clamp(0, MAX_ALPHA) * self.config.alpha

    def alpha_loss(self, penalty: Tensor) -> Tensor:
        """Return the loss ``[]`` by which α rises while the penalty ``[]`` is above the gap."""
        assert self.config.target_gap is not None
        return -self.alpha() * (penalty - self.config.target_gap)

    @torch.no_grad()
    def slack(self, observations: Tensor, actions: Tensor, bound: Tensor) -> Tensor:
        """Return ``max(log π(a|s), log π(a_10|s)) − log π(a_n|s)`` ``[B]`` for a bound n ``[]``.

        a_n lies n deviations from the policy's mean, but no further than 0.1 n from its mode; the mean of both sides.
        """
        inputs = self.balance.condition(observations, self.balance.sample(observations, False, self.stream))
        mean, log_std = self.policy(inputs)
        squashed = self.config.policy == "tanh-gaussian"

        def density_at(n: float | Tensor) -> Tensor:
            total = torch.zeros_like(mean[..., 0])
            for side in (1, -1):
                far = side * mean + n * log_std.exp()
                if squashed:  # before the tanh: a saturated policy's a_n would all be the border
                    cap = torch.tanh(side * mean) + 0.1 * n
                    far = torch.minimum(far, torch.where(cap < 1, torch.atanh(cap.clamp(max=1 - 1e-6)), torch.inf))
                else:
                    far = torch.minimum(far, side * mean + 0.1 * n)
                total = total + normal_log_prob(far, side * mean, log_std) - (tanh_log_det(far) if squashed else 0)
            return total / 2

        return torch.maximum(self.policy.log_prob(inputs, actions), density_at(10.0)) - density_at(bound)

    @torch.no_grad()
    def next_value(self, batch: Batch, members: Tensor | None) -> Tensor:
        c = self.config
        count = c.max_target_actions if self.phase == "offline" or c.max_target_online else 1
        actions, log_prob = self._sample(self._next_inputs(batch), count)
        repeated = batch.next_observations.expand(count, *batch.next_observations.shape)
        q = self.target_critic(repeated.flatten(0, 1), self._perturbed(actions).flatten(0, 1), members).amin(-2)
        value, best = q.unflatten(-1, (count, -1)).max(-2)
        if c.backup_entropy:
            value = value - self.temperature * log_prob.gather(-2, best.unsqueeze(-2)).squeeze(-2)
        return value

    @torch.no_grad()
    def _sampled_actions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return actions ``[3n, B, action_dim]`` (uniform, from π(s), from π(s')) and log-densities ``[3n, B]``."""
        n, action_dim, observations = self.config.sampled_actions, self.spaces.action_dim, batch.observations
        uniform = 2 * self.stream.uniform(n, observations.shape[0], action_dim, dtype=observations.dtype) - 1
        current, current_log = self._sample(self._conditioned(observations), n)
        following, following_log = self._sample(self._next_inputs(batch), n)
        uniform_log = torch.full_like(current_log, -action_dim * math.log(2))
        return (
            torch.cat([uniform, current, following]),
            torch.cat([uniform_log, current_log, following_log]),
        )

    def _next_inputs(self, batch: Batch) -> Tensor:
        """Return the policy's input for the next observations; the balance is theirs, or that of the current ones."""
        if self.config.target_balance == "own":
            return super()._next_inputs(batch)
        balance = self.balance.sample(batch.observations, True, self.stream)
        return self.balance.condition(batch.next_observations, balance)
