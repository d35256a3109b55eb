from __future__ import annotations

from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.report.compare import Row, compare_runs
from balrl.report.runs import read_runs
from tests.report.test_runs import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, (a, b) in enumerate([(10, 50), (20, 60), (30, 15), (40, 80)]):
        write_run(tmp_path / f"a{seed}", [70.0, 5.0, float(a)], seed=str(seed))
        write_run(tmp_path / f"b{seed}", [70.0, 30.0, float(b)], seed=str(seed), **{"finetune.retain": "append"})
    return tmp_path


def rows(folder: Path, metric: str = "final") -> list[Row]:
    [block] = compare_runs(read_runs([folder]), metric)
    assert block.title == "balrl/PointMaze-v0"
    return block.rows


def test_interquartile_means_and_probability_of_improvement(folder: Path) -> None:
    first, second = rows(folder)
    assert (first.method, second.method) == ("iql, retain=none", "iql, retain=append")
    assert first.iqm == pytest.approx((20 + 30) / 2)
    assert second.iqm == pytest.approx((50 + 60) / 2)
    assert first.improvement is None
    assert second.improvement is not None
    assert second.improvement[0] == pytest.approx((4 + 4 + 1 + 4) / 16)
    low, high = second.interval
    assert 15 <= low <= second.iqm <= high <= 80


def test_a_smaller_drop_is_better(folder: Path) -> None:
    first, second = rows(folder, "drop")
    assert (first.iqm, second.iqm) == (65, 40)
    assert second.improvement is not None
    assert second.improvement[0] == 1.0


def test_best_and_regret(folder: Path) -> None:
    assert rows(folder, "best")[0].iqm == 70
    assert rows(folder, "regret")[0].scores[0][0] == pytest.approx(((30 + 95) / 2 + (95 + 90) / 2) / 2)


def test_one_method_alone_has_its_mean_and_interval(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [10.0 * seed], seed=str(seed))
    [block] = compare_runs(read_runs([tmp_path]))
    assert [(row.method, row.iqm, row.improvement) for row in block.rows] == [("iql", 5.0, None)]


def test_tasks_are_grouped_and_can_be_chosen(folder: Path) -> None:
    for name in ("iql", "sac"):
        write_run(folder / f"{name}-large", [1.0], preset=f"{name}/point-maze", env_kwargs="{layout: large}")
    write_run(folder / "sac-medium", [3.0], preset="sac/point-maze")
    blocks = compare_runs(read_runs([folder]))
    found = {block.title: [row.method for row in block.rows] for block in blocks}
    assert found["balrl/PointMaze-v0"] == ["iql, retain=none", "iql, retain=append", "sac"]
    assert found["balrl/PointMaze-v0 layout=large"] == ["iql", "sac"]
    assert len(found) == 2  # the variants of iql ran on one task only
    [block] = compare_runs(read_runs([folder]), chosen=["balrl/PointMaze-v0 layout=large"])
    assert [row.method for row in block.rows] == ["iql", "sac"]
    with pytest.raises(UserError, match="no run is on the task 'Hopper-v5'"):
        compare_runs(read_runs([folder]), chosen=["Hopper-v5"])
    with pytest.raises(UserError, match="has no drop: it needs finite scores, evaluations before"):
        compare_runs(read_runs([folder / "sac-large"]), "drop")


def test_tasks_that_all_methods_ran_are_taken_together(tmp_path: Path) -> None:
    for seed in (0, 1):
        for layout, base in (("medium", 0.0), ("large", 50.0)):
            for name in ("iql", "sac"):
                more = {"env_kwargs": f"{{layout: {layout}}}", "seed": str(seed)}
                write_run(tmp_path / f"{name}{layout}{seed}", [base + seed], preset=f"{name}/point-maze", **more)
    blocks = compare_runs(read_runs([tmp_path]))
    assert [block.title for block in blocks][-1] == "2 tasks together"
    assert blocks[-1].rows[0].scores == [[50.0, 51.0], [0.0, 1.0]]
    assert blocks[-1].rows[0].iqm == pytest.approx((1 + 50) / 2)
