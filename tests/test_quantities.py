"""Quantities in words."""

from __future__ import annotations

from balrl.quantities import duration


def test_durations() -> None:
    assert [duration(s) for s in (5, 89, 600, 7_200)] == ["5 s", "89 s", "10 min", "2.0 h"]
