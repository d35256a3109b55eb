from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import save_file

from balrl.errors import UserError
from balrl.foreign import checksum, expect, fields, parse_json, read_json, read_tensors


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_one_line(content: bytes) -> None:
    with contextlib.suppress(UserError):
        parse_json(content, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 3_000, "nested too deeply|damaged"), ("9" * 5_000, "damaged"), ("{", "Expecting"), ("\ud800", "damaged")],
)
def test_what_is_too_much_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    if text == "[" * 3_000:
        text += "]" * 3_000
        (tmp_path / "a.json").write_text(text * 40)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json")


def test_types_are_told_apart(tmp_path: Path) -> None:
    assert expect(3, float, "x") == 3
    for value, kind in (
        (True, int),
        (1.5, int),
        ("1", float),
        ([], dict),
        (1, bool),
        (None, str),
        (10**400, float),
        (2**63, int),
    ):
        with pytest.raises(UserError, match=r"x holds .*, expected"):
            expect(value, kind, "x")
    assert fields({"a": 1, "b": "?"}, {"a": int}, "x") == {"a": 1, "b": "?"}
    with pytest.raises(UserError, match="x lacks 'b'"):
        fields({"a": 1}, {"a": int, "b": str}, "x")
    with pytest.raises(UserError, match="x: 'a' holds 1, expected text"):
        fields({"a": 1}, {"a": str}, "x")
    with pytest.raises(UserError, match=f"'{tmp_path}/none' cannot be read: No such file"):
        read_json(tmp_path / "none")


def test_tensors_come_with_their_header(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a", {"me": '{"b": 1}', "broken": "{"})
    tensors, header = read_tensors(tmp_path / "a", "thing", "me")
    assert tensors["a"].tolist() == [1, 1]
    assert header == {"b": 1}
    for key, message in (("you", "holds no thing"), ("broken", "the header of .* is damaged")):
        with pytest.raises(UserError, match=message):
            read_tensors(tmp_path / "a", "thing", key)
    (tmp_path / "b").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is not a safetensors file"):
        read_tensors(tmp_path / "b", "thing", "me")
    with pytest.raises(UserError, match="no thing at"):
        read_tensors(tmp_path / "c", "thing", "me")


def test_a_checksum_is_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
