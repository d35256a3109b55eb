"""Stochastic and deterministic policy heads on a multilayer perceptron.

All act in [-1, 1]. Shapes: inputs ``[B, input_dim]``, actions ``[B, action_dim]``, log-probabilities ``[B]``;
`sample(x, stream, count)` puts an axis of `count` independent draws in front of both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balrl.networks import MLP, ORTHOGONAL_GAIN, Linear
from balrl.random_stream import RandomStream

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of independent normals, summed over the last axis."""
    z = (x - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std - HALF_LOG_2PI).sum(-1)


def tanh_log_det(pre_tanh: Tensor) -> Tensor:
    """``log |d tanh(x)/dx| = log(1 − tanh²x)``, summed over the last axis, in the form that does not underflow."""
    return (2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))).sum(-1)


def normal_kl(mean: Tensor, log_std: Tensor, to_mean: Tensor, to_log_std: Tensor) -> Tensor:
    """KL(N₁ ‖ N₂) of independent normals, summed over the last axis; a tanh of both leaves it as it is."""
    squares = torch.exp(2 * (log_std - to_log_std)) + ((mean - to_mean) * torch.exp(-to_log_std)).square()
    return (to_log_std - log_std + 0.5 * (squares - 1)).sum(-1)


def normal_entropy(log_std: Tensor) -> Tensor:
    """Entropy of independent normals in nats, summed over the last axis."""
    return (log_std + HALF_LOG_2PI + 0.5).sum(-1)


def _noise(mean: Tensor, stream: RandomStream, count: int | None) -> Tensor:
    shape = mean.shape if count is None else (count, *mean.shape)
    return stream.normal(*shape, dtype=mean.dtype)


class Policy(nn.Module, ABC):
    """What every policy head does. `kind` is its name in configurations."""

    kind: ClassVar[str]
    trunk: MLP
    mean: Linear

    @abstractmethod
    def mode(self, x: Tensor) -> Tensor:
        """Return the most likely actions."""

    @abstractmethod
    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return reparameterised actions and their log-probabilities, where the policy has a density."""


class StochasticPolicy(Policy):
    """A policy with a density."""

    @abstractmethod
    def forward(self, x: Tensor, dropout: RandomStream | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the normal distribution, before the tanh where there is one."""

    @abstractmethod
    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return reparameterised actions and their log-probabilities."""

    @abstractmethod
    def log_prob(self, x: Tensor, actions: Tensor, dropout: RandomStream | None = None) -> Tensor:
        """Return the log-density of actions."""


class GaussianPolicy(StochasticPolicy):
    """N(tanh(f(s)), diag(σ²)) with σ a free parameter, not squashed; IQL's policy (arXiv 2110.06169).

    Samples can leave [-1, 1]: `act` of an agent clips them, densities are the unclipped Gaussian's.
    """

    kind = "gaussian"

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        dropout: float = 0.0,
        layer_norm: bool = False,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            input_dim, hidden, layer_norm=layer_norm, dropout=dropout, last_gain=last_gain, activation=activation
        )
        self.mean = Linear(self.trunk.output_dim, action_dim)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.log_std_range = log_std_range

    def forward(self, x: Tensor, dropout: RandomStream | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean ``[B, action_dim]`` and the log standard deviation ``[action_dim]``."""
        return torch.tanh(self.mean(self.trunk(x, dropout))), self.log_std.clamp(*self.log_std_range)

    def log_prob(self, x: Tensor, actions: Tensor, dropout: RandomStream | None = None) -> Tensor:
        return normal_log_prob(actions, *self(x, dropout))

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return reparameterised actions and their log-probabilities."""
        mean, log_std = self(x)
        actions = mean + log_std.exp() * _noise(mean, stream, count)
        return actions, normal_log_prob(actions, mean, log_std)

    def mode(self, x: Tensor) -> Tensor:
        return self(x)[0]


class TanhGaussianPolicy(StochasticPolicy):
    """tanh(N(μ(s), diag(σ(s)²))), SAC's policy (arXiv 1801.01290, appendix C).

    With `state_dependent_std` off, σ is a free parameter that starts at 1.
    """

    kind = "tanh-gaussian"

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        dropout: float = 0.0,
        layer_norm: bool = False,
        state_dependent_std: bool = True,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            input_dim, hidden, layer_norm=layer_norm, dropout=dropout, last_gain=last_gain, activation=activation
        )
        self.mean = Linear(self.trunk.output_dim, action_dim)
        self.log_std = (
            Linear(self.trunk.output_dim, action_dim) if state_dependent_std else nn.Parameter(torch.zeros(action_dim))
        )
        self.log_std_range = log_std_range

    def forward(self, x: Tensor, dropout: RandomStream | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation before the tanh, each ``[B, action_dim]``."""
        features = self.trunk(x, dropout)
        mean = self.mean(features)
        log_std = self.log_std(features) if isinstance(self.log_std, Linear) else self.log_std.expand_as(mean)
        return mean, log_std.clamp(*self.log_std_range)

    def log_prob(self, x: Tensor, actions: Tensor, dropout: RandomStream | None = None) -> Tensor:
        """Log-density of actions in (-1, 1); those on the border are moved inside by 1e-5 first."""
        pre_tanh = torch.atanh(actions.clamp(-1 + 1e-5, 1 - 1e-5))
        return normal_log_prob(pre_tanh, *self(x, dropout)) - tanh_log_det(pre_tanh)

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return reparameterised actions and their log-probabilities."""
        mean, log_std = self(x)
        pre_tanh = mean + log_std.exp() * _noise(mean, stream, count)
        return torch.tanh(pre_tanh), normal_log_prob(pre_tanh, mean, log_std) - tanh_log_det(pre_tanh)

    def mode(self, x: Tensor) -> Tensor:
        return torch.tanh(self(x)[0])


class DeterministicPolicy(Policy):
    """tanh(f(s)); sampling returns the same action as the mode."""

    kind = "deterministic"

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
        layer_norm: bool = False,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            input_dim, hidden, layer_norm=layer_norm, dropout=dropout, last_gain=last_gain, activation=activation
        )
        self.mean = Linear(self.trunk.output_dim, action_dim)

    def forward(self, x: Tensor, dropout: RandomStream | None = None) -> Tensor:
        return torch.tanh(self.mean(self.trunk(x, dropout)))

    def mode(self, x: Tensor) -> Tensor:
        return self(x)

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, None]:
        """Return the action; it has no density."""
        actions = self(x)
        return (actions if count is None else actions.expand(count, *actions.shape)), None


class OneStepPolicy(Policy):
    """μ(s, z) with z ~ N(0, I), clipped to [-1, 1]: a policy of any shape, without a density (arXiv 2502.02538).

    Such a policy has no most likely action that could be had without a search. Its `mode` is the action of the most
    likely z, which is 0.
    """

    kind = "one-step"

    def __init__(
        self, input_dim: int, action_dim: int, hidden: Sequence[int], layer_norm: bool = False, activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            input_dim + action_dim, hidden, layer_norm=layer_norm, activation=activation, norm_after=layer_norm
        )
        self.mean = Linear(self.trunk.output_dim, action_dim)
        self.action_dim = action_dim

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Return actions ``[…, B, action_dim]`` for latents of that shape, not clipped."""
        inputs = torch.cat([x.expand(*latent.shape[:-1], x.shape[-1]), latent], -1).flatten(0, -2)
        return self.mean(self.trunk(inputs)).reshape(latent.shape)

    def mode(self, x: Tensor) -> Tensor:
        return self(x, x.new_zeros(*x.shape[:-1], self.action_dim)).clamp(-1, 1)

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, None]:
        """Return actions, and that they have no density."""
        shape = (*x.shape[:-1], self.action_dim)
        latent = stream.normal(*(shape if count is None else (count, *shape)), dtype=x.dtype)
        return self(x, latent).clamp(-1, 1), None


def make_policy(kind: str, input_dim: int, action_dim: int, hidden: Sequence[int], **settings: Any) -> Policy:
    """Build the policy head of a kind.

    Args:
        settings: further arguments of its class.
    """
    kinds: dict[str, type[Policy]] = {p.kind: p for p in (GaussianPolicy, TanhGaussianPolicy, DeterministicPolicy)}
    return kinds[kind](input_dim, action_dim, hidden, **settings)
