from __future__ import annotations

from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.report.figures import drawn


def test_a_picture_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), drawn(tmp_path / "a.png", 1, 1):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with drawn(tmp_path / "a.png", 2, 1) as figure:
        figure.text(0.1, 0.5, "costs $5 or $\\frac{")  # would be a broken formula
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*: No such file"), drawn(tmp_path / "none" / "a.png", 1, 1):
        pass
