from __future__ import annotations

from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.report.compare import compare, comparison_table, draw_comparison
from balrl.report.runs import labels, read_runs
from tests.report.test_runs import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, (a, b) in enumerate([(10, 50), (20, 60), (30, 15), (40, 80)]):
        write_run(tmp_path / f"a{seed}", [70.0, 5.0, float(a)], seed=str(seed))
        write_run(tmp_path / f"b{seed}", [70.0, 30.0, float(b)], seed=str(seed), **{"finetune.retain": "append"})
    return tmp_path


def test_interquartile_means_and_probability_of_improvement(folder: Path) -> None:
    first, second = compare(labels(read_runs([folder])))
    assert (first.method, second.method) == ("iql, finetune.retain=none", "iql, finetune.retain=append")
    assert first.iqm == pytest.approx((20 + 30) / 2)
    assert second.iqm == pytest.approx((50 + 60) / 2)
    assert first.improvement is None
    assert second.improvement is not None
    assert second.improvement[0] == pytest.approx((4 + 4 + 1 + 4) / 16)
    low, high = second.interval
    assert 15 <= low <= second.iqm <= high <= 80


def test_a_smaller_drop_is_better(folder: Path) -> None:
    first, second = compare(labels(read_runs([folder])), "drop")
    assert (first.iqm, second.iqm) == (65, 40)
    assert second.improvement is not None
    assert second.improvement[0] == 1.0


def test_best_and_regret(folder: Path) -> None:
    groups = labels(read_runs([folder]))
    assert compare(groups, "best")[0].iqm == 70
    assert compare(groups, "regret")[0].scores[0][0] == pytest.approx(((30 + 95) / 2 + (95 + 90) / 2) / 2)


def test_only_what_is_comparable_is_compared(folder: Path) -> None:
    write_run(folder / "other", [1.0], preset="sac/point-maze", env_kwargs="{layout: large}")
    with pytest.raises(UserError, match="the methods share no task"):
        compare(labels(read_runs([folder])))
    with pytest.raises(UserError, match="has no drop: it needs finite scores, evaluations before"):
        compare({"x": read_runs([folder / "other"])}, "drop")


def test_table_and_picture(folder: Path) -> None:
    groups = labels(read_runs([folder]))
    rows = compare(groups)
    assert comparison_table(rows, "final").row_count == 2
    draw_comparison(groups, rows, "final", folder / "compare.png")
    assert (folder / "compare.png").stat().st_size > 10_000
