"""What a learned reward does while it is optimised."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

KEYS = ("count", "proxy", "gold", "proxy²", "gold²", "proxy·gold", "disagreement")


class RewardMonitor:
    """Sums over the transitions that a learned reward labels; nothing reaches the host until somebody asks.

    - ``reward/proxy``, ``reward/gold``: mean of the learned and of the task's own reward.
    - ``reward/correlation``: of the two, over transitions.
    - ``reward/gap``: by how many deviations the proxy has risen above the gold since the first window,
      ``(proxy − proxy_0) / σ_proxy − (gold − gold_0) / σ_gold``.
    - ``reward/disagreement``: the members' standard deviation, averaged over transitions.

    Args:
        device: of what is added.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(len(KEYS), dtype=torch.float64, device=device)
        self.first: tuple[float, float, float, float] | None = None
        """Mean and deviation of proxy and gold in the first window."""

    def add(self, scores: Tensor, proxy: Tensor, gold: Tensor) -> None:
        """See the members' scores ``[k, B]``, what became of them ``[B]``, and the task's rewards ``[B]``."""
        p, g = proxy.double(), gold.double()
        disagreement = scores.double().std(0, correction=0)
        rows = torch.stack([torch.ones_like(p), p, g, p * p, g * g, p * g, disagreement])
        self.sums += rows.sum(-1)

    def pop(self) -> dict[str, float]:
        """Return means over the transitions since the last call; nothing if there were none."""
        count, *sums = self.sums.tolist()
        self.sums.zero_()
        if not count:
            return {}
        proxy, gold, proxies, golds, products, disagreement = (value / count for value in sums)
        proxy_std, gold_std = (max(x, 0.0) ** 0.5 for x in (proxies - proxy**2, golds - gold**2))
        if self.first is None:
            self.first = (proxy, proxy_std or 1.0, gold, gold_std or 1.0)
        found = {"reward/proxy": proxy, "reward/gold": gold, "reward/disagreement": disagreement}
        found["reward/gap"] = (proxy - self.first[0]) / self.first[1] - (gold - self.first[2]) / self.first[3]
        if proxy_std and gold_std:
            found["reward/correlation"] = (products - proxy * gold) / (proxy_std * gold_std)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running sums and the first window."""
        first = {} if self.first is None else {"first": torch.tensor(self.first, dtype=torch.float64)}
        return {"sums": self.sums, **first}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums.copy_(state["sums"])
        self.first = tuple(state["first"].tolist()) if "first" in state else None
