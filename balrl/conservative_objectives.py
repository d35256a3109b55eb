"""One number from the scores of several reward models: the conservative objectives of arXiv 2310.02743 and others.

Nothing here knows what was scored: states and actions, whole segments, or a language model's answers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from balrl.errors import UserError, did_you_mean

OBJECTIVES = {"single": 0.0, "mean": 0.0, "wco": 0.0, "uwo": 0.5, "softmin": 1.0, "quantile": 0.25}
"""By name, with the coefficient that is used where none is given."""
NO_STRENGTH = 1e-12
"""Coefficients below it make no difference that scores can hold."""


def conservative(
    scores: Tensor, objective: str = "uwo", coefficient: float | None = None, *, check: bool = True
) -> Tensor:
    """Reduce members' scores ``r [k, …]`` to ``[…]``, differentiably and on their device.

    | objective | value | coefficient |
    | --- | --- | --- |
    | ``single`` | ``r_c``, one member | its index c, 0 by default |
    | ``mean`` | ``mean_i r_i`` | none |
    | ``wco`` | ``min_i r_i``, the worst case | none |
    | ``uwo`` | ``mean_i r_i − λ · (1/k) Σ_i (r_i − mean)²``, uncertainty-weighted | λ ≥ 0 (PPO: 0.1) |
    | ``softmin`` | ``−(1/τ) · log mean_i exp(−τ r_i)`` (arXiv 2606.09073) | τ ≥ 0; 0 is the mean, ∞ the worst case |
    | ``quantile`` | the lower quantile q, interpolated linearly | q in [0, 1]; 0 is the worst case |

    Args:
        scores: of k members, made comparable by normalising each (`RewardEnsemble.normalize`).
        objective: one of `OBJECTIVES`.
        coefficient: see above; None: that of `OBJECTIVES`.
        check: ask the device whether every member's scores are numbers. Without, those that are not give NaN.

    Raises:
        UserError: for an unknown objective, a coefficient out of range, or a member whose scores are not numbers.
    """
    if objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise UserError(f"no objective '{objective}'{did_you_mean(objective, OBJECTIVES)}; objectives: {known}")
    value = OBJECTIVES[objective] if coefficient is None else float(coefficient)
    members = scores.shape[0]
    _check_coefficient(objective, value, members)
    if check:
        check_members(scores)
    if objective == "single":
        return scores[int(value)]
    if objective == "wco" or (objective == "softmin" and math.isinf(value)):
        return scores.amin(0)
    if objective == "quantile":
        return scores.quantile(value, 0)
    mean = scores.mean(0)
    if objective == "mean" or value < NO_STRENGTH:
        return mean
    if objective == "uwo":
        return mean - value * (scores - mean).square().mean(0)
    return mean - _log_mean_exp(value * (mean - scores)) / value


def _log_mean_exp(z: Tensor) -> Tensor:
    """Return ``log mean_i exp(z_i)``, ``[…]``, also where all are so small that exponentials round to 1."""
    small = z.clamp(-1, 1).expm1().mean(0).log1p()
    return torch.where(z.abs().amax(0) <= 1, small, z.logsumexp(0) - math.log(len(z)))


def check_members(scores: Tensor) -> None:
    """Raise a `UserError` that names the members whose scores ``[k, …]`` are not all finite."""
    finite = scores.isfinite().flatten(1).all(1).tolist()
    bad = [str(index) for index, ok in enumerate(finite) if not ok]
    if bad:
        plural = "s" if len(bad) > 1 else ""
        raise UserError(
            f"reward model member{plural} {', '.join(bad)} of {len(finite)} gave scores that are not finite; "
            "train the ensemble again with a smaller learning rate, or leave the member out"
        )


def _check_coefficient(objective: str, value: float, members: int) -> None:
    allowed = {
        "single": (value in range(members), f"the index of a member, 0 to {members - 1}"),
        "uwo": (0 <= value < math.inf, "at least 0"),
        "softmin": (value >= 0, "at least 0"),
        "quantile": (0 <= value <= 1, "in [0, 1]"),
    }
    ok, expected = allowed.get(objective, (True, ""))
    if not ok:
        raise UserError(f"the coefficient of '{objective}' is {value:g}, expected {expected}")
