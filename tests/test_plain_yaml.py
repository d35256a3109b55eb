from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from balrl.errors import UserError
from balrl.plain_yaml import dump_in_one_line, dump_yaml, parse_yaml


def test_yaml_means_what_everybody_thinks() -> None:
    read = parse_yaml(
        "a: 1e-3\nb: off\nc: true\nd: 1E6\ne: yes\nf: 0.5\ng: -2e3\nh: e5\ni: 010\nj: 2024-13-45\nk:", "text"
    )
    assert read == {"a": 1e-3, "b": "off", "c": True, "d": 1e6, "e": "yes", "f": 0.5, "g": -2000.0, "h": "e5",
                    "i": "010", "j": "2024-13-45", "k": None}  # fmt: skip


WORDS = st.sampled_from(["12e45", "off", "0x1", "1:30", "null", "~", "2024-01-02", "1_000", ".5", "010", "1."])


@given(
    st.one_of(
        st.text(max_size=8),
        st.integers(1 - 2**63, 2**63 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
        st.none(),
        WORDS,
    )
)
@example("\x85")
def test_whatever_is_dumped_is_read_back(value: object) -> None:
    assert parse_yaml(dump_yaml({"key": value}), "text") == {"key": value}


@pytest.mark.parametrize(
    "text", ["!!bool maybe", "!!int x", "[" * 3_000, "!!timestamp x", "!!binary 1", "a: 1" + "0" * 400, "- !!float [1]"]
)
def test_tags_and_depths_that_do_not_fit_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match="here") as raised:
        parse_yaml(text, "here")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "value", [1, 0.5, 1e-5, None, True, "a b", "yes", "ü: x", [1, [2, "c, d"]], [], {}, {"a": [1]}]
)
def test_one_line_is_read_back(value: Any) -> None:
    text = dump_in_one_line(value)
    assert "\n" not in text
    assert parse_yaml(text, "it") == value
    assert "\n" not in dump_in_one_line(["word"] * 500)
