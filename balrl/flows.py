"""Flow matching: velocity fields that carry noise to actions, their loss, Euler's method along them, and policies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from balrl.networks import MLP, Linear
from balrl.policies import Policy
from balrl.random_stream import RandomStream


class VelocityField(nn.Module):
    """v(s, x, t): conditions ``[B, input_dim]``, points ``[B, action_dim]`` and times ``[B]`` give ``[B, action_dim]``.

    Args:
        layer_norm: after each hidden layer's activation.
    """

    def __init__(
        self, input_dim: int, action_dim: int, hidden: Sequence[int], layer_norm: bool = False, activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.trunk = MLP(
            input_dim + action_dim + 1, hidden, layer_norm=layer_norm, activation=activation, norm_after=layer_norm
        )
        self.velocity = Linear(self.trunk.output_dim, action_dim)

    def forward(self, conditions: Tensor, points: Tensor, times: Tensor) -> Tensor:
        return self.velocity(self.trunk(torch.cat([conditions, points, times.unsqueeze(-1)], -1)))


def flow_matching_loss(
    field: VelocityField, conditions: Tensor, actions: Tensor, stream: RandomStream, played: Tensor | None = None
) -> Tensor:
    """Return ``mean over action dimensions (v(s, (1 − t) x₀ + t a, t) − (a − x₀))²`` ``[B]``.

    Of a chunk, squares of what was not played count as 0 in that mean (`played` ``[B, chunk_size]``).

    ``x₀ ~ N(0, I)`` and ``t ~ U(0, 1)`` are drawn in this order (arXiv 2210.02747; with actions arXiv 2502.02538).
    """
    noise = stream.normal(*actions.shape, dtype=actions.dtype)
    times = stream.uniform(*actions.shape[:-1], dtype=actions.dtype)
    points = torch.lerp(noise, actions, times.unsqueeze(-1))
    squares = (field(conditions, points, times) - (actions - noise)).square()
    if played is not None:
        squares = (squares.unflatten(-1, (played.shape[-1], -1)) * played.unsqueeze(-1)).flatten(-2)
    return squares.mean(-1)


def euler(field: VelocityField, conditions: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Return the actions ``[B, action_dim]`` to which a field carries noise in `steps` steps, clipped to [-1, 1].

    ``x ← x + v(s, x, i / steps) / steps`` for i from 0.
    """
    points = noise
    for i in range(steps):
        times = torch.full_like(points[..., 0], i / steps)
        points = points + field(conditions, points, times) / steps
    return points.clamp(-1, 1)


class FlowPolicy(Policy):
    """The actions to which a velocity field carries ``z ~ N(0, I)``: a policy of any shape, without a density.

    Its `mode` is the action of the most likely z, which is 0, as that of `OneStepPolicy`.
    """

    kind = "flow"

    def __init__(
        self, input_dim: int, action_dim: int, hidden: Sequence[int], steps: int, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.field = VelocityField(input_dim, action_dim, hidden, layer_norm)
        self.steps, self.action_dim = steps, action_dim

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return actions ``[B, action_dim]`` for noise of that shape."""
        return euler(self.field, x, noise, self.steps)

    def mode(self, x: Tensor) -> Tensor:
        return self(x, x.new_zeros(*x.shape[:-1], self.action_dim))

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, None]:
        """Return actions, and that they have no density."""
        shape = x.shape if count is None else (count, *x.shape)
        noise = stream.normal(*shape[:-1], self.action_dim, dtype=x.dtype)
        actions = self(x.expand(shape).flatten(0, -2), noise.flatten(0, -2))
        return actions.view(noise.shape), None
