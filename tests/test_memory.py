from __future__ import annotations

import pytest

from balrl import memory
from balrl.errors import UserError
from balrl.memory import available, check_fits


def test_what_is_larger_than_what_is_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    left = available()
    assert left is not None
    assert left > 1e8
    monkeypatch.setattr(memory, "available", lambda _: 1_000_000_000)
    check_fits(0.9e9, "a replay", "less")
    with pytest.raises(UserError, match=r"a replay needs 2\.5 GB of memory, cpu has 1\.0 GB left: lower it"):
        check_fits(2.5e9, "a replay", "lower it")
