"""The estimator of best-of-n: against enumeration, Monte Carlo, and at sizes where factorials overflow."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from balrl.errors import UserError
from balrl.rewards import expected_best_of_n, kl_of_best_of_n


def enumerated(proxy: list[int], gold: list[float], n: int) -> float:
    """The mean over all subsets; equal best samples share."""
    found = []
    for subset in combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        tied = [gold[i] for i in range(len(proxy)) if proxy[i] == best]
        found.append(sum(tied) / len(tied))
    return sum(found) / len(found)


@given(
    pool=st.lists(st.tuples(st.integers(0, 4), st.floats(-10, 10)), min_size=1, max_size=7),
)
@settings(max_examples=80)
def test_it_is_the_mean_over_all_subsets(pool: list[tuple[int, float]]) -> None:
    proxy, gold = [p for p, _ in pool], [g for _, g in pool]
    counts = list(range(1, len(pool) + 1))
    found = expected_best_of_n(torch.tensor(proxy), torch.tensor(gold, dtype=torch.float64), counts)
    for n, value in zip(counts, found.tolist(), strict=True):
        assert value == pytest.approx(enumerated(proxy, gold, n), abs=1e-9)


def test_it_is_what_drawing_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    proxy = torch.randn(5000, generator=generator, dtype=torch.float64)
    gold = proxy - 0.3 * proxy.square() + torch.randn(5000, generator=generator, dtype=torch.float64)
    draws = torch.stack([torch.randperm(5000, generator=generator)[:40] for _ in range(4000)])
    best = draws.gather(1, proxy[draws].argmax(1, keepdim=True)).squeeze(1)
    standard_error = gold[best].std() / 4000**0.5
    assert abs(expected_best_of_n(proxy, gold, [40])[0] - gold[best].mean()) < 4 * standard_error


def test_large_pools_and_every_n_at_once() -> None:
    size = 50_000
    scores = torch.arange(size, dtype=torch.float64)
    counts = [1, 2, 100, 12_500, size]
    found = expected_best_of_n(scores, scores, counts)
    exact = [n * (size + 1) / (n + 1) - 1 for n in counts]  # of the largest of n different numbers of 0 … size − 1
    assert found.tolist() == pytest.approx(exact, rel=1e-9)
    assert len(expected_best_of_n(scores[:300], scores[:300], range(1, 301))) == 300


def test_order_of_the_pool_does_not_matter() -> None:
    proxy, gold = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    order = torch.randperm(50)
    torch.testing.assert_close(
        expected_best_of_n(proxy, gold, [1, 7, 50]), expected_best_of_n(proxy[order], gold[order], [1, 7, 50])
    )
    assert expected_best_of_n(proxy, gold, [50]).item() == pytest.approx(gold[proxy.argmax()].item())


def test_divergence() -> None:
    assert kl_of_best_of_n([1, 2, 10]).tolist() == pytest.approx([0, math.log(2) - 0.5, math.log(10) - 0.9])


def test_mistakes_are_explained() -> None:
    scores = torch.arange(5.0)
    for n in (0, 6):
        with pytest.raises(UserError, match=f"n is {n}, expected at least 1 and at most the pool's 5 samples"):
            expected_best_of_n(scores, scores, [2, n])
    with pytest.raises(UserError, match="5 proxy scores and 4 gold scores"):
        expected_best_of_n(scores, scores[:4], [1])
    with pytest.raises(UserError, match="1 of 5 gold scores are not finite"):
        expected_best_of_n(scores, scores.clone().index_fill(0, torch.tensor([2]), math.nan), [1])
