"""Quantities as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
