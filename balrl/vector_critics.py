"""Critics of several rewards: vectors of values, and what a preference makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from balrl.errors import UserError
from balrl.networks import Linear, Normalizer, QEnsemble, Value


class PreferenceNormalizer(Normalizer):
    """Normalises observations and puts a preference w beside them: ``[…, observation_dim]`` gives ``[…, · + m]``.

    Observations that come with a preference of their own, ``[…, observation_dim + m]``, keep it; others get
    `preference`. So whatever takes raw observations takes them with a preference, too.

    Args:
        width: of an observation.
        objectives: m.
    """

    preference: Tensor

    def __init__(self, width: int, objectives: int) -> None:
        super().__init__(width)
        self.register_buffer("preference", torch.full((objectives,), 1 / objectives))
        self.output_dim = width + objectives

    def forward(self, x: Tensor) -> Tensor:
        width, objectives = self.mean.shape[-1], self.preference.shape[-1]
        if x.shape[-1] == width:
            preference = self.preference.expand(*x.shape[:-1], objectives)
        else:
            x, preference = x.split([width, objectives], -1)
        return torch.cat([super().forward(x), preference.to(x.dtype)], -1)


class Utility(nn.Module):
    """``u(w, v) = Σ_i w_i v_i``, or Chebyshev's ``min_i w_i (v_i − z_i)`` where there is a utopian point z.

    Args:
        utopia: z ``[m]``, in the units of the values; None for the linear one.
    """

    utopia: Tensor | None

    def __init__(self, utopia: Sequence[float] | None = None) -> None:
        super().__init__()
        self.register_buffer("utopia", None if utopia is None else torch.tensor(utopia), persistent=False)

    def forward(self, vectors: Tensor, preferences: Tensor) -> Tensor:
        """Return utilities ``[…]`` of vectors ``[…, m]`` under preferences ``[…, m]``."""
        if self.utopia is None:
            return (vectors * preferences).sum(-1)
        return (preferences * (vectors - self.utopia)).amin(-1)


class VectorQEnsemble(QEnsemble):
    """`members` independent ``Q(s, a, w) ∈ R^m``; called like any critics, they give utilities ``[members, B]``.

    The preference w ``[B, m]`` is the last of the observations.
    """

    def __init__(self, objectives: int, utility: Utility, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.head = Linear(self.trunk.output_dim, objectives, (self.members,))  # type: ignore[assignment]
        self.objectives, self.utility = objectives, utility

    def vectors(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        """Return Q ``[members, B, m]``."""
        return self.head(self.trunk(torch.cat([observations, actions], -1), members=members), members)

    def forward(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        vectors = self.vectors(observations, actions, members)
        return self.utility(vectors, observations[..., -self.objectives :])

    def least(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        """Return ``[B, m]``, the vector of that member whose utility is least."""
        vectors = self.vectors(observations, actions, members)
        utilities = self.utility(vectors, observations[..., -self.objectives :])
        chosen = utilities.argmin(-2)[..., None, :, None].expand(*vectors.shape[:-3], 1, *vectors.shape[-2:])
        return vectors.gather(-3, chosen).squeeze(-3)


class VectorValue(Value):
    """``V(s, w) ∈ R^m``; called like any value function, it gives utilities ``[B]``."""

    def __init__(self, objectives: int, utility: Utility, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.head = Linear(self.trunk.output_dim, objectives)  # type: ignore[assignment]
        self.objectives, self.utility = objectives, utility

    def vectors(self, observations: Tensor) -> Tensor:
        """Return V ``[B, m]``."""
        return self.head(self.trunk(observations))

    def forward(self, observations: Tensor) -> Tensor:
        return self.utility(self.vectors(observations), observations[..., -self.objectives :])


def draw_preferences(uniform: Tensor) -> Tensor:
    """Return preferences ``[…, m]`` uniform on the simplex, Dirichlet(1, …, 1), of uniform numbers in [0, 1)."""
    spacings = -torch.log1p(-uniform)
    return spacings / spacings.sum(-1, keepdim=True).clamp(min=torch.finfo(uniform.dtype).tiny)


def with_preference(observations: Tensor, preference: Sequence[float] | Tensor) -> Tensor:
    """Return observations ``[B, ·]`` with a preference beside them, one ``[m]`` for all or ``[B, m]``."""
    w = torch.as_tensor(preference, dtype=observations.dtype, device=observations.device)
    return torch.cat([observations, w.expand(len(observations), w.shape[-1])], -1)


def checked_preference(preference: Any, objectives: int, rows: int | None = None) -> Tensor:
    """Return a preference ``[m]`` that a person gave, or one for each of so many rows ``[B, m]``, scaled to sum to 1.

    Raises:
        UserError: when it is of another number of rewards, negative, or nothing at all.
    """
    if objectives == 1:
        raise UserError("this agent learned from one reward, and has no preference to ask for; mo-sac, mo-iql … have")
    try:
        w = torch.as_tensor(np.asarray(preference, np.float32))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the preference is {preference!r}, expected {objectives} numbers, one weight per reward"
        ) from error
    if w.shape not in {(objectives,), (rows, objectives)}:
        of_each = "" if rows is None else f", or ({rows}, {objectives}) for each of {rows} observations"
        raise UserError(
            f"the preference has shape {tuple(w.shape)}, expected ({objectives},), one weight per reward{of_each}"
        )
    total = w.sum(-1, keepdim=True)
    if not bool((w >= 0).all()) or not bool((total > 0).all()) or not bool(w.isfinite().all()):
        raise UserError(f"the preference is {w.tolist()}, expected weights of at least 0, not all of them 0")
    return w / total
