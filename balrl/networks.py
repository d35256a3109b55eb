"""Multilayer perceptrons and batched ensembles of them.

Every parameter of an ensemble has a leading member axis (none for a single network), weights are stored
``[*members, in, out]``, and no operation mixes members: member ``i`` computes what it would compute alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balrl.random_stream import RandomStream
from balrl.vmap import rows, stacked

ORTHOGONAL_GAIN = math.sqrt(2.0)
ROUNDING = 1e-6
"""Deviations below this share of the mean are what float32 makes of a constant."""


def orthogonal(members: tuple[int, ...], fan_in: int, fan_out: int, gain: float = ORTHOGONAL_GAIN) -> nn.Parameter:
    """Return a ``[*members, fan_in, fan_out]`` parameter, each member orthogonal times a gain (Saxe et al., 2014).

    Drawn on the CPU and then moved: a seed gives the same first weights on every device.
    """
    weight = torch.empty(math.prod(members), fan_in, fan_out, device="cpu")
    for member in weight:
        nn.init.orthogonal_(member, gain)
    return nn.Parameter(weight.reshape(*members, fan_in, fan_out).to(torch.empty(()).device))


class Linear(nn.Module):
    """``y = x W + b``; ``x [*members, B, in]`` or ``[B, in]`` (shared by all members) gives ``[*members, B, out]``."""

    def __init__(self, fan_in: int, fan_out: int, members: tuple[int, ...] = (), gain: float = ORTHOGONAL_GAIN) -> None:
        super().__init__()
        self.weight = orthogonal(members, fan_in, fan_out, gain)
        self.bias = nn.Parameter(torch.zeros(*members, fan_out))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        if self.weight.dim() == 2:
            return torch.addmm(self.bias, x, self.weight)
        weight, bias = _selected(members, self.weight, self.bias)
        # Not `x @ W`: matmul folds a shared x into a transposed product, and what follows then runs on strided memory.
        return torch.baddbmm(bias.unsqueeze(-2), x.expand(weight.shape[0], -1, -1), weight)


class ScalarHead(nn.Module):
    """A linear layer to one number, ``(x * w).sum(-1) + b``: ``[*members, B, in]`` gives ``[*members, B]``."""

    def __init__(self, fan_in: int, members: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(orthogonal(members, fan_in, 1).detach().squeeze(-1).clone())
        self.bias = nn.Parameter(torch.zeros(members))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        weight, bias = _selected(members, self.weight, self.bias)
        return (x * weight.unsqueeze(-2)).sum(-1) + bias.unsqueeze(-1)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with one scale and shift per member (Ba et al., 2016)."""

    def __init__(self, width: int, members: tuple[int, ...] = (), eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(*members, width))
        self.bias = nn.Parameter(torch.zeros(*members, width))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        weight, bias = _selected(members, self.weight, self.bias)
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * weight.unsqueeze(-2) + bias.unsqueeze(-2)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": partial(F.gelu, approximate="tanh"),
}
FLAX_EPS = 1e-6
"""Added to variances by flax's layer normalisation."""


class MLP(nn.Module):
    """Hidden layers: linear, optional layer norm, activation, optional dropout.

    Args:
        input_dim: width of the input.
        hidden: widths of the hidden layers, at least one.
        members: leading ensemble axes of every parameter; ``()`` for one network.
        layer_norm: normalise each hidden layer before its activation.
        dropout: probability in [0, 1), applied only where `forward` is given a stream of random numbers.
        last_gain: of the last layer's initial weights; √2 in all others.
        activation: of `ACTIVATIONS`.
        norm_after: normalise after the activation and not before it, as flax code often does.
    """

    def __init__(
        self,
        input_dim: int,
        hidden: Sequence[int],
        members: tuple[int, ...] = (),
        layer_norm: bool = False,
        dropout: float = 0.0,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
        norm_after: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.norm_after = ACTIVATIONS[activation], norm_after
        widths = [input_dim, *hidden]
        gains = [ORTHOGONAL_GAIN] * (len(hidden) - 1) + [last_gain]
        self.layers = nn.ModuleList(
            Linear(*pair, members, gain) for pair, gain in zip(pairwise(widths), gains, strict=True)
        )
        eps = FLAX_EPS if norm_after else 1e-5
        self.norms = nn.ModuleList(LayerNorm(w, members, eps) for w in hidden) if layer_norm else None
        self.dropout = dropout
        self.output_dim = widths[-1]

    def forward(self, x: Tensor, dropout: RandomStream | None = None, members: Tensor | None = None) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, members)
            if self.norms is not None and not self.norm_after:
                x = self.norms[index](x, members)
            x = self.activation(x)
            if self.norms is not None and self.norm_after:
                x = self.norms[index](x, members)
            if dropout is not None and self.dropout > 0:
                kept = dropout.uniform(*x.shape) >= self.dropout
                x = x * kept / (1 - self.dropout)
        return x


class Value(nn.Module):
    """V(s): ``[B, observation_dim]`` gives ``[B]``."""

    def __init__(self, observation_dim: int, hidden: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.trunk = MLP(observation_dim, hidden, layer_norm=layer_norm)
        self.head = ScalarHead(self.trunk.output_dim)

    def forward(self, observations: Tensor) -> Tensor:
        return self.head(self.trunk(observations))


class QEnsemble(nn.Module):
    """`members` independent Q(s, a): ``[B, observation_dim], [B, action_dim]`` gives ``[members, B]``.

    Given the indices ``[k]`` of some members, only those are computed, and the result is ``[k, B]``.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        members: int = 2,
        layer_norm: bool = False,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
        norm_after: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            observation_dim + action_dim,
            hidden,
            (members,),
            layer_norm,
            last_gain=last_gain,
            activation=activation,
            norm_after=norm_after,
        )
        self.head = ScalarHead(self.trunk.output_dim, (members,))
        self.members = members

    def forward(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        return self.head(self.trunk(torch.cat([observations, actions], -1), members=members), members)


class Normalizer(nn.Module):
    """``(x − mean) / std`` with a fixed mean and standard deviation; the identity until `fit`.

    It lives inside the agent, so that a saved policy takes raw observations wherever it goes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.output_dim = width
        """Width of what comes out, which networks take."""

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Copy a mean and a standard deviation, each ``[width]``; those that are 0, or rounding, become 1."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > ROUNDING * mean.abs(), std, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class RunningMoments(nn.Module):
    """Mean and standard deviation of all rows seen so far (Chan, Golub and LeVeque, 1979)."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("squares", torch.zeros(width))

    @property
    def std(self) -> Tensor:
        """The population's; 0 before there are rows."""
        return (self.squares / self.count.clamp(min=1)).sqrt().to(self.mean.dtype)

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """See rows ``[B, width]``."""
        new, mean = rows.shape[0], rows.mean(0)
        gap, total = mean - self.mean, self.count + new
        self.squares.add_((rows - mean).square().sum(0) + gap.square() * (self.count * new / total))
        self.mean.add_(gap * (new / total))
        self.count.copy_(total)


def _selected(members: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of some members ``[k]`` of each parameter, or the parameters as they are."""
    return parameters if members is None else tuple(p.index_select(0, members) for p in parameters)


def sinusoidal_embedding(x: Tensor, width: int) -> Tensor:
    """Embed scalars ``x [B]`` as ``[B, width]``, `width` even (FamO2O, arXiv 2310.17966).

    Entries ``2i`` and ``2i + 1`` are ``sin(x / n^(2i/width))`` and ``cos(x / n^(2i/width))`` with ``n = 10000``.
    """
    exponents = torch.arange(0, width, 2, device=x.device, dtype=x.dtype) / width
    angles = x.unsqueeze(-1) / 10_000.0**exponents
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float | Tensor) -> None:
    """Move every target parameter towards its source: ``target ← target + rate · (source − target)``."""
    targets, sources = ([stacked(p) for p in module.parameters()] for module in (target, source))
    if isinstance(rate, Tensor):  # members of a population with rates of their own
        for parameter, end in zip(targets, sources, strict=True):
            parameter.lerp_(end, rows(stacked(rate), parameter))
    else:
        torch._foreach_lerp_(targets, sources, rate)
