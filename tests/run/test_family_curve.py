from __future__ import annotations

import pytest

from balrl.run.family_curve import rank_correlations


def record(balance: float | None, mean: float, q: float) -> dict[str, float | None]:
    return {"balance": balance, "mean": mean, "mean_q": q}


def test_rank_correlations_are_over_the_constant_members() -> None:
    records = [record(None, 0.0, 99.0), record(1, 1.0, 3.0), record(2, 2.0, 2.0), record(3, 3.0, 1.0)]
    assert rank_correlations(records) == {"mean_q": pytest.approx(-1.0)}


def test_nothing_is_said_of_too_few_or_equal_members() -> None:
    assert rank_correlations([record(1, 1.0, 3.0), record(2, 2.0, 2.0)]) == {}
    assert rank_correlations([record(i, 1.0, float(i)) for i in range(4)]) == {}
