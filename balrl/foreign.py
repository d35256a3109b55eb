"""What comes from outside as JSON or as tensors: read and checked, or refused in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.errors import UserError, first_line, shorten

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**63
"""No whole number that balrl writes is as large."""
NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def parse_json(text: str | bytes, source: str) -> Any:
    """Return what JSON from outside says.

    Raises:
        UserError: naming `source`, for what is no JSON, is no UTF-8, or goes deeper or has longer numbers than any that
            balrl writes.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)[:200]
        raise UserError(f"{source} is damaged: {reason}") from error


def read_json(path: Path, kind: type | None = None) -> Any:
    """Return what a JSON file says, of a type if one is given (`parse_json`, `expect`).

    Raises:
        UserError: when it cannot be read, is no JSON, or is of another type.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}") from error
    data = parse_json(content, f"'{path}'")
    return data if kind is None else expect(data, kind, f"'{path}'")


def expect(value: Any, kind: type, source: str) -> Any:
    """Return a value from outside if it is of a type; whole numbers count as numbers, and true is no number.

    Raises:
        UserError: naming `source`, what it holds and what was expected.
    """
    accepted = (int, float) if kind is float else kind
    fits = isinstance(value, accepted) and (not isinstance(value, bool) or kind is bool)
    if not fits or (isinstance(value, int) and abs(value) >= LARGEST):
        raise UserError(f"{source} holds {shorten(value)}, expected {NAMES[kind]}")
    return value


def fields(data: Any, kinds: Mapping[str, type], source: str) -> dict[str, Any]:
    """Return an object from outside that has fields of some types, and perhaps others.

    Raises:
        UserError: naming the first that is missing or of another type.
    """
    found: dict[str, Any] = expect(data, dict, source)
    for key, kind in kinds.items():
        if key not in found:
            raise UserError(f"{source} lacks '{key}'")
        expect(found[key], kind, f"{source}: '{key}'")
    return found


def read_tensors(path: Path, what: str, header: str) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a safetensors file and the JSON that stands under a key of its header.

    Raises:
        UserError: when the file is missing, is none, or its header lacks the key.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"no {what} at '{path}': no such file")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not a safetensors file: {first_line(error)[:200]}") from error
    if text is None:
        raise UserError(f"'{path}' holds no {what}: balrl did not write it")
    return tensors, parse_json(text, f"the header of '{path}'")


def checksum(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
