"""Best-of-n: what the best of n samples under a proxy earns in gold, exactly, from a pool of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from balrl.errors import UserError

BLOCK = 64
"""Values of n whose weights are in memory at once."""


def expected_best_of_n(proxy: Tensor, gold: Tensor, n: Sequence[int] | Tensor) -> Tensor:
    """Return the expected gold score of the best of n samples under the proxy, for every n: ``[len(n)]`` float64.

    The unbiased estimator over all subsets of n of a pool of N, samples sorted by ascending proxy score:
    ``E_n = Σ_{i=n..N} C(i−1, n−1) / C(N, n) · gold_(i)`` (Nakano et al., arXiv 2112.09332), in logarithms. Samples with
    equal proxy scores share the average of their gold scores. With ``gold = proxy`` it is the proxy's own curve.

    Args:
        proxy: ``[N]``, what is maximised.
        gold: ``[N]``, what is reported, in the same order.
        n: values in [1, N].

    Raises:
        UserError: for an n that the pool is too small for, for scores that are not numbers or of different length.
    """
    proxy, gold = proxy.flatten().double(), gold.flatten().double()
    counts = torch.as_tensor(n, dtype=torch.int64, device=proxy.device).flatten()
    size = len(proxy)
    if len(gold) != size:
        raise UserError(f"{size} proxy scores and {len(gold)} gold scores, expected as many")
    for name, values in (("proxy", proxy), ("gold", gold)):
        if not bool(values.isfinite().all()):
            raise UserError(f"{int((~values.isfinite()).sum())} of {size} {name} scores are not finite numbers")
    if len(counts) and not (int(counts.min()) >= 1 and int(counts.max()) <= size):
        wrong = int(counts.max()) if int(counts.max()) > size else int(counts.min())
        raise UserError(f"n is {wrong}, expected at least 1 and at most the pool's {size} samples")
    levels, inverse = proxy.unique(sorted=True, return_inverse=True)
    members = torch.zeros_like(levels).index_add_(0, inverse, torch.ones_like(proxy))
    shared = torch.zeros_like(levels).index_add_(0, inverse, gold) / members
    ordered = shared[inverse.sort().values]
    return torch.cat([_weights(part, size) @ ordered for part in counts.split(BLOCK)] or [ordered[:0]])


def kl_of_best_of_n(n: Sequence[int] | Tensor) -> Tensor:
    """Return ``log n − (n − 1) / n``, the divergence of best-of-n from what was sampled, in nats, ``[len(n)]``."""
    counts = torch.as_tensor(n, dtype=torch.float64)
    return counts.log() - (counts - 1) / counts


def _weights(n: Tensor, size: int) -> Tensor:
    """Return ``C(i − 1, n − 1) / C(size, n)`` for ranks i = 1 … size: ``[len(n), size]``."""
    ranks = torch.arange(1, size + 1, dtype=torch.float64, device=n.device)
    n = n.double().unsqueeze(-1)
    spare = (ranks - n).clamp(min=0)
    log_ratio = torch.lgamma(ranks) - torch.lgamma(spare + 1) - torch.lgamma(n)
    weights = torch.where(ranks >= n, log_ratio - log_ratio[:, -1:], -torch.inf).exp()
    return weights / weights.sum(-1, keepdim=True)  # C(size, n) is the sum of the others, whatever they were rounded to
