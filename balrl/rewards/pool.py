"""Pools of scored samples: a language model's answers, trajectories, actions; what best-of-n makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from balrl.conservative_objectives import check_members, conservative
from balrl.errors import UserError
from balrl.rewards.best_of_n import expected_best_of_n, kl_of_best_of_n
from balrl.rewards.rows import read_rows


class BestOfN(NamedTuple):
    """Expected scores of the best of n, means over groups, each ``[len(n)]``; gold is None where none is known."""

    n: Tensor
    kl: Tensor
    proxy: Tensor
    gold: Tensor | None


@dataclass(frozen=True)
class Pool:
    """N samples, in groups from each of which the best is chosen.

    Attributes:
        scores: members' scores ``[k, N]``.
        gold: true scores ``[N]``, or None.
        groups: rows of each group: of one prompt, or one state.
        rows: what was scored, one entry per sample.
    """

    scores: Tensor
    gold: Tensor | None
    groups: tuple[Tensor, ...]
    rows: Sequence[Any]

    def best_of_n(self, n: Sequence[int], objective: str = "uwo", coefficient: float | None = None) -> BestOfN:
        """Return the exact expectation of the best of n under an objective, averaged over groups.

        Raises:
            UserError: where a group has fewer samples than an n, or a member's scores are not finite.
        """
        proxy = conservative(self.scores, objective, coefficient)
        means = [torch.stack([expected_best_of_n(proxy[g], proxy[g], n) for g in self.groups]).mean(0)]
        if self.gold is not None:
            means.append(torch.stack([expected_best_of_n(proxy[g], self.gold[g], n) for g in self.groups]).mean(0))
        return BestOfN(torch.tensor(n), kl_of_best_of_n(n), means[0], means[1] if len(means) > 1 else None)

    def ranked(self, objective: str = "uwo", coefficient: float | None = None) -> list[list[int]]:
        """Return each group's rows from best to worst under an objective: one order for scores, gold and samples."""
        proxy = conservative(self.scores, objective, coefficient)
        return [g[proxy[g].argsort(descending=True, stable=True)].tolist() for g in self.groups]


def read_pool(path: str | Path, group: str = "prompt", scores: str = "scores", gold: str = "gold") -> Pool:
    """Read a JSONL or Parquet file (extra `parquet`) with one sample per row.

    Args:
        path: of the file.
        group: column that is equal within a group; where no row has it, all are one group.
        scores: column with the list of the members' scores, as many in every row.
        gold: column with the true score; all rows or none have it.

    Raises:
        UserError: naming the row and the column that is not as expected.
    """
    path = Path(path)
    rows = read_rows(path, "pool")
    found: list[list[float]] = []
    for index, row in enumerate(rows):
        values = row.get(scores)
        if not isinstance(values, list) or not all(isinstance(x, int | float) for x in values) or not values:
            raise UserError(f"'{path}' row {index}: '{scores}' is {values!r}, expected a list of the members' numbers")
        if len(values) != len(found[0] if found else values):
            raise UserError(f"'{path}' row {index} has {len(values)} member scores, the rows before {len(found[0])}")
        found.append([_number(x, f"'{path}' row {index}: '{scores}'") for x in values])
    return make_pool(rows, torch.tensor(found, dtype=torch.float64).T, group, gold, path)


def make_pool(rows: Sequence[dict[str, Any]], scores: Tensor, group: str, gold: str, path: Path) -> Pool:
    """Return the pool of a file's rows, whose members' scores ``[k, N]`` are known; the rest as for `read_pool`."""
    check_members(scores)
    with_gold = [isinstance(row.get(gold), int | float) for row in rows]
    if any(with_gold) and not all(with_gold):
        raise UserError(f"'{path}' row {with_gold.index(False)} has no number '{gold}', others have")
    indices: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        indices.setdefault(json.dumps(row.get(group), default=str), []).append(index)
    return Pool(
        scores,
        torch.tensor([_number(row[gold], f"'{path}': '{gold}'") for row in rows], dtype=torch.float64)
        if all(with_gold)
        else None,
        tuple(torch.tensor(g) for g in indices.values()),
        rows,
    )


def _number(value: int | float, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"{where} has a number that is too large for a score") from error


def powers_of_two(most: int) -> list[int]:
    """Return 1, 2, 4, … up to `most`, which ends the list."""
    return [*(n for n in (2**i for i in range(most.bit_length())) if n < most), most]
