"""Messages that help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balrl.errors import UserError, check_target, did_you_mean, first_line, last_line, read_text, shorten


def test_the_nearest_name_also_where_its_section_is_left_out() -> None:
    known = ["agent.expectile", "agent.hidden", "seed"]
    assert did_you_mean("agent.expectle", known) == "; did you mean 'agent.expectile'?"
    nested = ["agent.policy.layers.hidden", "seed"]
    assert did_you_mean("hidden", nested) == "; did you mean 'agent.policy.layers.hidden'?"
    assert did_you_mean("zzzz", known) == ""


def test_texts_are_read_with_and_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffβ".encode())
    assert read_text(tmp_path / "a", "protocol") == "β"
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text: the protocol must be a file in UTF-8"):
        read_text(tmp_path / "b", "protocol")
    for missing in (tmp_path / "c", tmp_path):
        with pytest.raises(UserError, match=r"no protocol at .*no such file"):
            read_text(missing, "protocol")


def test_targets_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    assert check_target(tmp_path / "a.png", (".png",)) == tmp_path / "a.png"
    for target, message in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "a.png", "there is no folder"),
        (tmp_path / "a.txt", "expected a name that ends in .png or .gif"),
    ):
        with pytest.raises(UserError, match=message):
            check_target(target, (".png", ".gif"))


def test_what_is_long_is_cut() -> None:
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    for error in (AssertionError(), RuntimeError("AssertionError: ")):  # torch's compiler wraps those without a message
        with pytest.raises(type(error)) as raised:
            raise error
        assert re.fullmatch(r"AssertionError in test_errors.py, line \d+", first_line(raised.value))
    assert shorten([1, 2]) == "[1, 2]"
    assert shorten("x" * 99, 10) == "'xxxxxxxx…"


def test_the_last_line_of_an_error_from_elsewhere_says_what_was_wrong() -> None:
    assert last_line(RuntimeError("Traceback:\n  File x\nValueError: too much\n\n")) == "ValueError: too much"
    assert last_line(RuntimeError()) == "RuntimeError"
