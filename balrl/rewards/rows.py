"""Rows of a JSONL or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balrl.errors import UserError, first_line, read_text
from balrl.foreign import expect, parse_json


def read_rows(path: Path, what: str) -> list[dict[str, Any]]:
    """Return the rows of a file, Parquet (extra `parquet`) by its ending and JSONL otherwise.

    Args:
        path: of the file.
        what: it holds, for messages.

    Raises:
        UserError: when it is missing, cannot be read, or holds no rows; naming the line that is no JSON object.
    """
    if not path.is_file():
        raise UserError(f"no {what} at '{path}': no such file")
    rows = _parquet(path) if path.suffix == ".parquet" else _json_lines(path, what)
    if not rows:
        raise UserError(f"'{path}' holds no rows")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException
    except ModuleNotFoundError as error:
        raise UserError("Parquet files need pyarrow: pip install 'balrl[parquet]', or give JSONL") from error
    try:
        return list(parquet.read_table(path).to_pylist())
    except (ArrowException, OSError) as error:
        raise UserError(f"'{path}' is not a Parquet file: {first_line(error)}") from error


def _json_lines(path: Path, what: str) -> list[dict[str, Any]]:
    lines = enumerate(read_text(path, what).split("\n"), 1)  # other ends of lines may stand inside of texts
    sources = ((f"'{path}' line {number}", line) for number, line in lines if line.strip())
    return [expect(parse_json(line, source), dict, source) for source, line in sources]
