"""Ray, where it is installed: a cluster that is there, or one on this machine that listens to nobody outside."""

from __future__ import annotations

import os
import socket
from typing import Any

from balrl.errors import UserError, first_line

STORE = 200 * 2**20
"""Bytes of the object store of one on this machine: what balrl sends is small."""


def import_ray(what_for: str) -> Any:
    """Return the module, told to keep a cluster of this machine's own to the loopback interface.

    Args:
        what_for: the setting that asks for it.

    Raises:
        UserError: when it is not installed.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without GPUs keep CUDA_VISIBLE_DEVICES
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else Ray listens on all interfaces, on Linux, too
    try:
        import ray
    except ImportError as error:
        raise UserError(f"{what_for} needs Ray: pip install 'balrl[ray]' ({first_line(error)})") from error
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster, or start one on this machine, without a dashboard; return False if that was done before.

    Args:
        ray: the module.
        address: ``host:port`` or ``auto``; None: one of this process's own, for as long as it lives.

    Raises:
        UserError: when there is none at the address.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {"address": "local", "_node_ip_address": "127.0.0.1", "object_store_memory": STORE}
        options |= {"_system_config": {"worker_niceness": 0}}  # Ray's 15 starves them beside anything else
    else:
        options |= {"address": address}
    try:
        _knock(address)
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise UserError(f"there is no Ray cluster {where}: {first_line(error)}") from error
    return True


def _knock(address: str | None) -> None:
    """Raise an `OSError` if nobody listens at ``host:port``: Ray gives up after minutes and ends the process."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()
