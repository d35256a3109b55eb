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

    Of several rewards each by itself, as ``reward/proxy_1`` and so on.

    Args:
        device: of what is added.
        reward_dim: how many rewards a step has.
    """

    def __init__(self, device: torch.device | str = "cpu", reward_dim: int = 1) -> None:
        self.sums = torch.zeros(reward_dim, len(KEYS), dtype=torch.float64, device=device)
        self.first: list[tuple[float, ...] | None] = [None] * reward_dim
        """Mean and deviation of proxy and gold in the first window."""

    def add(self, scores: Tensor, proxy: Tensor, gold: Tensor) -> None:
        """See the members' scores ``[k, B]``, what became of them ``[B]``, the task's ``[B]``; or ``[…, m]``."""
        p, g = proxy.double(), gold.double()
        disagreement = scores.double().std(0, correction=0)
        rows = torch.stack([torch.ones_like(p), p, g, p * p, g * g, p * g, disagreement])
        self.sums += rows.sum(1).view(len(KEYS), -1).T

    def pop(self) -> dict[str, float]:
        """Return means over the transitions since the last call; nothing if there were none."""
        rows = self.sums.tolist()
        self.sums.zero_()
        found: dict[str, float] = {}
        for index, row in enumerate(rows):
            suffix = f"_{index + 1}" if len(rows) > 1 else ""
            found |= {key + suffix: value for key, value in self._means(index, *row).items()}
        return found

    def _means(self, index: int, count: float, *sums: float) -> dict[str, float]:
        if not count:
            return {}
        proxy, gold, proxies, golds, products, disagreement = (value / count for value in sums)
        proxy_std, gold_std = (max(x, 0.0) ** 0.5 for x in (proxies - proxy**2, golds - gold**2))
        first = self.first[index]
        if first is None:
            self.first[index] = first = (proxy, proxy_std or 1.0, gold, gold_std or 1.0)
        found = {"reward/proxy": proxy, "reward/gold": gold, "reward/disagreement": disagreement}
        found["reward/gap"] = (proxy - first[0]) / first[1] - (gold - first[2]) / first[3]
        if proxy_std and gold_std:
            found["reward/correlation"] = (products - proxy * gold) / (proxy_std * gold_std)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running sums and the first window."""
        known = [row for row in self.first if row is not None]
        first = {"first": torch.tensor(known, dtype=torch.float64)} if known else {}
        return {"sums": self.sums, **first}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums.copy_(state["sums"].view_as(self.sums))
        known = state["first"].view(len(self.first), -1).tolist() if "first" in state else [None] * len(self.first)
        self.first = [None if row is None else tuple(row) for row in known]
