"""Teachers that label pairs of segments by a true reward, with the faults of people (B-Pref, arXiv 2111.03026)."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.config import TeacherConfig


class Teacher(TeacherConfig):
    """Labels pairs of segments with true rewards ``r [P, 2, H]``, in this order:

    1. **skip** the pair if both segments are poor: ``max(Σ r_1, Σ r_2) ≤ skip``, where that threshold is set;
    2. **score** ``R = Σ_t γ^(H−1−t) r_t``: the last steps count most where γ < 1 (myopic);
    3. **prefer** the second with ``R_2 > R_1`` (perfect), or with probability ``sigmoid(β (R_2 − R_1))`` (stochastic);
    4. **flip** the label with some probability;
    5. **equal**: the label is ½ where ``|Σ r_1 − Σ r_2| < equal``.

    `skip` and `equal` are thresholds as fractions of ``mean episode return · H / T`` (`scale`), of its size for
    `equal`; 0 switches them off. γ is `discount`, β `rationality`, and `flip` the probability of a wrong label.
    """

    def label(self, rewards: Tensor, generator: torch.Generator, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return labels ``[P]`` (the probability that the second is preferred) and which pairs are kept, ``[P]`` bool.

        Args:
            rewards: ``[P, 2, H]``.
            generator: of the stochastic labels and the flips.
            scale: what `skip` and `equal` are fractions of.
        """
        rewards = rewards.double()
        sums = rewards.sum(-1)
        kept = torch.ones(len(rewards), dtype=torch.bool)
        if self.skip:
            kept = sums.amax(-1) > self.skip * scale
        ages = torch.arange(rewards.shape[-1] - 1, -1, -1, dtype=torch.float64)
        first, second = (rewards * self.discount**ages).sum(-1).unbind(-1)
        drawn = torch.rand(2, len(rewards), generator=generator, dtype=torch.float64)
        if self.rationality is None:
            prefers = second > first
        else:
            prefers = drawn[0] < torch.sigmoid(self.rationality * (second - first))
        labels = (prefers ^ (drawn[1] < self.flip)).double()
        if self.equal:
            labels = torch.where((sums[:, 0] - sums[:, 1]).abs() < self.equal * abs(scale), 0.5, labels)
        return labels.float(), kept


def threshold_scale(returns: Tensor, lengths: Tensor, steps: int) -> float:
    """Return ``mean episode return · H / T`` for a teacher's thresholds: T the mean length of episodes, H `steps`."""
    return float(returns.double().mean() * steps / lengths.double().mean())
