"""Which device is meant, and whether it is there."""

from __future__ import annotations

import torch

from balrl.errors import UserError


def check_device(name: torch.device | str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU where there is one.

    Raises:
        UserError: when there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"no device '{name}' here; found {', '.join(found)}") from error
    return device
