"""Pools of samples from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards import conservative, expected_best_of_n
from balrl.rewards.pool import powers_of_two, read_pool


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def rows(count: int = 12, prompts: int = 2) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    gold = scores.mean(1) + torch.randn(count, generator=generator, dtype=torch.float64)
    return [
        {"prompt": f"p{i % prompts}", "answer": f"a{i}", "scores": scores[i].tolist(), "gold": gold[i].item()}
        for i in range(count)
    ]


def test_curves_are_means_over_prompts(tmp_path: Path) -> None:
    made = rows()
    found = read_pool(write(tmp_path / "a.jsonl", made)).best_of_n([1, 3, 6], "wco")
    expected = []
    for prompt in ("p0", "p1"):
        own = [r for r in made if r["prompt"] == prompt]
        proxy = conservative(torch.tensor([r["scores"] for r in own], dtype=torch.float64).T, "wco")
        expected.append(
            expected_best_of_n(proxy, torch.tensor([r["gold"] for r in own], dtype=torch.float64), [1, 3, 6])
        )
    assert found.gold is not None
    torch.testing.assert_close(found.gold, torch.stack(expected).mean(0))
    assert found.proxy.tolist() == sorted(found.proxy.tolist())
    assert found.kl[0] == 0


def test_one_order_for_scores_gold_and_answers(tmp_path: Path) -> None:
    pool = read_pool(write(tmp_path / "a.jsonl", rows(7, prompts=1)))
    (order,) = pool.ranked("mean")
    proxy = pool.scores.mean(0)[order]
    assert proxy.tolist() == sorted(proxy.tolist(), reverse=True)
    best = pool.best_of_n([7], "mean")
    assert best.gold is not None
    assert pool.gold is not None
    assert best.gold.item() == pytest.approx(pool.gold[order[0]].item())
    assert pool.rows[order[0]]["gold"] == pool.gold[order[0]].item()


def test_parquet_is_the_same(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    made = rows()
    parquet.write_table(arrow.Table.from_pylist(made), tmp_path / "a.parquet")
    one, other = read_pool(tmp_path / "a.parquet"), read_pool(write(tmp_path / "a.jsonl", made))
    assert torch.equal(one.scores, other.scores)
    assert one.rows == other.rows


def test_without_prompts_and_gold(tmp_path: Path) -> None:
    made = [{"scores": r["scores"]} for r in rows()]
    pool = read_pool(write(tmp_path / "a.jsonl", made))
    assert [len(g) for g in pool.groups] == [12]
    assert pool.best_of_n([2]).gold is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1.0]}, "row 3 has 1 member scores, the rows before 3"),
        ({"scores": "x"}, "row 3: 'scores' is 'x', expected a list"),
        ({"gold": None}, "row 3 has no number 'gold'"),
        ({"scores": [1.0, float("nan"), 0.0]}, "member 1 of 3"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    made = rows()
    made[3].update(change)
    with pytest.raises(UserError, match=message):
        read_pool(write(tmp_path / "a.jsonl", made))


def test_other_mistakes_are_explained(tmp_path: Path) -> None:
    pool = read_pool(write(tmp_path / "a.jsonl", rows()))
    with pytest.raises(UserError, match="at most the pool's 6 samples"):
        pool.best_of_n([7])
    (tmp_path / "b.jsonl").write_text('{"scores": [1]}\n{"sco')
    with pytest.raises(UserError, match="line 2 is damaged"):
        read_pool(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no rows"):
        read_pool(tmp_path / "c.jsonl")
    with pytest.raises(UserError, match="no such file"):
        read_pool(tmp_path / "d.jsonl")
    (tmp_path / "e.jsonl").write_bytes(b"\x90")
    with pytest.raises(UserError, match="must be a file in UTF-8"):
        read_pool(tmp_path / "e.jsonl")


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    (tmp_path / "a.parquet").write_bytes(b"\x90")
    with pytest.raises(UserError, match="is not a Parquet file"):
        read_pool(tmp_path / "a.parquet")


def test_powers_of_two_end_at_the_pool() -> None:
    assert powers_of_two(1) == [1]
    assert powers_of_two(8) == [1, 2, 4, 8]
    assert powers_of_two(12) == [1, 2, 4, 8, 12]


def test_proxies_are_means_over_prompts_too(tmp_path: Path) -> None:
    """One n, three prompts: as many numbers as there are n, not as there are prompts."""
    made = rows(prompts=3)
    found = read_pool(write(tmp_path / "a.jsonl", made)).best_of_n([2], "mean")
    expected = []
    for prompt in ("p0", "p1", "p2"):
        own = torch.tensor([r["scores"] for r in made if r["prompt"] == prompt], dtype=torch.float64).mean(1)
        expected.append(expected_best_of_n(own, own, [2]))
    assert found.proxy.shape == (1,)
    torch.testing.assert_close(found.proxy, torch.stack(expected).mean(0))
