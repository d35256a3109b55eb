"""Critics that predict the distribution of returns, and not only its mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from balrl.networks import ORTHOGONAL_GAIN, Linear, QEnsemble


class CategoricalQEnsemble(QEnsemble):
    """`members` independent distributions of returns over fixed atoms (C51, Bellemare et al., arXiv 1707.06887).

    Called like any Q-ensemble it gives the means ``Q(s, a) = Σ_i z_i p_i(s, a)``: ``[members, B]``; `logits` gives the
    distributions, ``p = softmax(logits)``: ``[members, B, atoms]``.

    Args:
        observation_dim, action_dim: widths of the inputs.
        hidden: widths of the hidden layers.
        members: how many distributions.
        layer_norm: normalise each hidden layer.
        last_gain: of the last hidden layer's initial weights.
        activation: of the hidden layers.
        atoms: how many returns ``z_1 … z_n`` there are, evenly spaced.
        value_range: z_1 and z_n; returns beyond them cannot be told apart.
    """

    support: Tensor

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        members: int = 2,
        layer_norm: bool = False,
        last_gain: float = ORTHOGONAL_GAIN,
        activation: str = "relu",
        *,
        atoms: int,
        value_range: tuple[float, float],
    ) -> None:
        super().__init__(observation_dim, action_dim, hidden, members, layer_norm, last_gain, activation)
        self.head = Linear(self.trunk.output_dim, atoms, (members,))  # type: ignore[assignment]
        self.register_buffer("support", torch.linspace(*value_range, atoms))

    def logits(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        """Return unnormalised log-probabilities ``[members, B, atoms]``."""
        hidden = self.trunk(torch.cat([observations, actions], -1), members=members)
        return self.head(hidden, members)

    def forward(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        return (self.logits(observations, actions, members).softmax(-1) * self.support).sum(-1)


def project(probabilities: Tensor, support: Tensor, rewards: Tensor, discounts: Tensor) -> Tensor:
    """Return the distribution of ``r + γ Z`` on the atoms of Z (arXiv 1707.06887, equation 7).

    ``Φ_j = Σ_i p_i [1 − |clip(r + γ z_i, z_1, z_n) − z_j| / Δz]_0^1``: each atom's probability is shared between the
    two that it lands between. Written as a sum over all pairs of atoms, so that it does not depend on the order in
    which a GPU adds.

    Args:
        probabilities: ``[members, B, atoms]``, of Z.
        support: ``[atoms]``, evenly spaced.
        rewards: ``[B]``.
        discounts: ``[B]``, 0 where an episode terminated.
    """
    spacing = support[1] - support[0]
    moved = (rewards.unsqueeze(-1) + discounts.unsqueeze(-1) * support).clamp(support[0], support[-1])
    shares = (1 - (moved.unsqueeze(-1) - support).abs() / spacing).clamp(min=0)  # [B, from, to]
    return (probabilities.transpose(0, 1) @ shares).transpose(0, 1)
