"""How much memory something will take, asked before it is taken."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from balrl.errors import UserError


def available(device: torch.device | str = "cpu") -> int | None:
    """Return how many bytes a device has to give; None where nobody says."""
    if torch.device(device).type == "cuda":
        try:
            return int(torch.cuda.mem_get_info(device)[0])
        except (RuntimeError, AttributeError):
            return None
    found = []
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        top, now = (_lines(Path("/sys/fs/cgroup") / name) for name in (limit, used))
        if top and now and top[0].isdigit():
            found.append(int(top[0]) - int(now[0]))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def check_fits(needed: float, what: str, advice: str, device: torch.device | str = "cpu") -> None:
    """Raise a `UserError` if something is larger than the memory that is left.

    Args:
        needed: bytes.
        what: takes them.
        advice: what to do.
        device: whose memory.
    """
    left = available(device)
    if left is not None and needed > left:
        raise UserError(
            f"{what} needs {needed / 1e9:,.1f} GB of memory, {device} has {left / 1e9:,.1f} GB left: {advice}"
        )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
