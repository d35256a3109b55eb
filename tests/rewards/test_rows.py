"""Rows of files, whichever kind they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.rewards.rows import read_rows


def test_lines_and_parquet_are_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = [{"prompt": "a", "scores": [1.0, 2.0]}, {"prompt": "ü", "scores": [3.0, 4.0]}]
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "a", "scores": [1.0, 2.0]}\n\n{"prompt": "ü", "scores": [3.0, 4.0]}\n'
    )
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.jsonl", "pool") == read_rows(tmp_path / "a.parquet", "pool") == rows


def test_other_ends_of_lines_inside_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "x\u2028y\u0085z"}\r\n{"a": "b"}')
    assert read_rows(tmp_path / "a.jsonl", "pool") == [{"a": "x\u2028y\u0085z"}, {"a": "b"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "no pool at"),
        ("empty.jsonl", "\n", "holds no rows"),
        ("list.jsonl", '{"a": 1}\n[1]\n', "line 2"),
        ("broken.jsonl", "{", "line 1"),
        ("text.parquet", "no parquet", "is not a Parquet file"),
    ],
)
def test_what_is_no_such_file(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_rows(tmp_path / name, "pool")
