"""The balance between improvement and constraint: one number for all states, or a model that picks one per state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from balrl.agent import Metrics
from balrl.agents.hyperparameters import FixedBalance, SelectiveBalance, StateAdaptiveBalance
from balrl.agents.selective_balance import SelectiveBalanceModule
from balrl.balance import Balance, Improvement
from balrl.conservative_objectives import conservative
from balrl.networks import MLP, Linear, sinusoidal_embedding
from balrl.optim import adam, descend
from balrl.policies import normal_log_prob, tanh_log_det
from balrl.random_stream import RandomStream


class FixedBalanceModule(Balance):
    """The same coefficient everywhere; nothing to learn, nothing to condition on."""

    is_family = False

    def __init__(self, config: FixedBalance) -> None:
        super().__init__()
        self.coefficient = config.coefficient

    def sample(self, observations: Tensor, online: bool, stream: RandomStream) -> Tensor:
        return self.mode(observations)

    def mode(self, observations: Tensor) -> Tensor:
        return observations.new_zeros(observations.shape[:-1]) + self.coefficient

    def weight(self, coefficients: Tensor) -> Tensor:
        return coefficients

    def condition(self, observations: Tensor, coefficients: Tensor) -> Tensor:
        return observations

    def update(self, observations: Tensor, improvement: Improvement, stream: RandomStream) -> Metrics:
        return {}


class StateAdaptiveBalanceModule(Balance):
    """FamO2O's balance model π_b(β | s) (arXiv 2310.17966).

    A tanh-squashed Gaussian u with a state-independent log standard deviation in [−10, 2], mapped affinely,
    ``β = (u + 1)/2 · (max − min) + min``, or by the same map to ``log β`` (`scale`). Offline the policy trains on u
    uniform in [−1, 1], so that it learns the whole family; online on ``β ~ π_b``, detached. In both phases π_b itself
    maximises the policy's value, ``L = E[ temp · log π_b(u | s) − min_i Q_i(s, π_u(s, β)) ]``, with ``temp`` learned by
    ``temp · (H − H_target)`` (absent where the configuration switches entropy off); another conservative objective can
    stand in the minimum's place. Gradients flow through the policy and stop at π_b.

    Who acts need not be π_b's own choice: `choose` puts ``u' = clip(kept · u + shift, −1, 1)`` in its place, a constant
    member (kept 0) or an offset (kept 1). π_b goes on learning u as if nobody had.
    """

    is_family = True
    kept: Tensor
    shift: Tensor

    def __init__(self, config: StateAdaptiveBalance, observation_dim: int) -> None:
        super().__init__()
        self.config = config
        self.every, self.embedding_dim = config.every, config.embedding_dim
        self.log_range = math.log(config.maximum / config.minimum)
        self.trunk = MLP(observation_dim, config.hidden)
        self.mean = Linear(self.trunk.output_dim, 1)
        self.log_std = nn.Parameter(torch.zeros(1))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("kept", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        model = [*self.trunk.parameters(), *self.mean.parameters(), self.log_std]
        self.optimizers["balance"] = adam(model, config.learning_rate)
        if config.entropy:
            self.optimizers["balance_temperature"] = adam([self.log_temperature], config.learning_rate)

    def draw(self, observations: Tensor, stream: RandomStream) -> tuple[Tensor, Tensor]:
        """Return reparameterised u ``[B]`` and their log-density ``[B]``."""
        mean = self.mean(self.trunk(observations))
        log_std = self.log_std.clamp(-10, 2)
        pre_tanh = mean + log_std.exp() * stream.normal(*mean.shape, dtype=mean.dtype)
        log_prob = normal_log_prob(pre_tanh, mean, log_std) - tanh_log_det(pre_tanh)
        return torch.tanh(pre_tanh).squeeze(-1), log_prob

    @torch.no_grad()
    def sample(self, observations: Tensor, online: bool, stream: RandomStream) -> Tensor:
        if online:
            return self.coefficients(self._chosen(self.draw(observations, stream)[0], self.kept, self.shift))
        return self.coefficients(2 * stream.uniform(*observations.shape[:-1], dtype=observations.dtype) - 1)

    def mode(self, observations: Tensor) -> Tensor:
        return self.member(observations, self.kept, self.shift)

    def member(self, observations: Tensor, kept: Tensor, shift: Tensor) -> Tensor:
        """Return the coefficients ``[B]`` of members ``clip(kept · u + shift, −1, 1)``; both are ``[]`` or ``[B]``."""
        u = torch.tanh(self.mean(self.trunk(observations)).squeeze(-1))
        return self.coefficients(self._chosen(u, kept, shift))

    def choose(self, kept: float | Tensor, shift: float | Tensor) -> None:
        """Let a member act from now on."""
        for buffer, value in ((self.kept, kept), (self.shift, shift)):
            buffer.copy_(torch.as_tensor(value))

    def coefficients(self, u: Tensor) -> Tensor:
        """Map u in [−1, 1] onto the range."""
        low, high = self.config.minimum, self.config.maximum
        if self.config.scale == "log":
            return low * ((u + 1) / 2 * self.log_range).exp()
        return (u + 1) / 2 * (high - low) + low

    def weight(self, coefficients: Tensor) -> Tensor:
        return coefficients / self.config.unit

    def condition(self, observations: Tensor, coefficients: Tensor) -> Tensor:
        seen = coefficients.log() if self.config.scale == "log" else coefficients
        return torch.cat([observations, sinusoidal_embedding(seen, self.embedding_dim)], -1)

    def loss(
        self, observations: Tensor, improvement: Improvement, stream: RandomStream
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss ``[]``, the entropy ``H = −mean log π_b`` and the drawn coefficients ``[B]``, detached."""
        u, log_prob = self.draw(observations, stream)
        coefficients, c = self.coefficients(u), self.config
        loss = -conservative(improvement(coefficients), c.objective, c.objective_coefficient, check=False)
        if self.config.entropy:
            loss = loss + self.log_temperature.detach().exp() * log_prob
        return loss.mean(), -log_prob.detach().mean(), coefficients.detach()

    def update(self, observations: Tensor, improvement: Improvement, stream: RandomStream) -> Metrics:
        loss, entropy, coefficients = self.loss(observations, improvement, stream)
        descend(self.optimizers["balance"], loss)
        if self.config.entropy:
            temperature_loss = self.log_temperature.exp() * (entropy - self.config.target_entropy)
            descend(self.optimizers["balance_temperature"], temperature_loss)
        return {
            "balance/loss": loss.detach(),
            "balance/entropy": entropy,
            "balance/temperature": self.log_temperature.detach().exp(),
            "balance/mean": coefficients.mean(),
            "balance/std": coefficients.std(-1, correction=0),
        }

    @staticmethod
    def _chosen(u: Tensor, kept: Tensor, shift: Tensor) -> Tensor:
        return (kept * u + shift).clamp(-1, 1)


def make_balance(config: FixedBalance | StateAdaptiveBalance | SelectiveBalance, observation_dim: int) -> Balance:
    """Build the runtime balance that a configuration describes."""
    if isinstance(config, SelectiveBalance):
        return SelectiveBalanceModule(config, observation_dim)
    if isinstance(config, StateAdaptiveBalance):
        return StateAdaptiveBalanceModule(config, observation_dim)
    return FixedBalanceModule(config)
