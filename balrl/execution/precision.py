"""How precisely the matrix products of updates are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from balrl.config import Precision
from balrl.errors import UserError

CPU = {"float32": "highest", "bf16-mixed": "medium"}
CUDA = {"float32": "highest", "tf32": "high", "bf16-mixed": "highest"}
"""Torch's names (`torch.set_float32_matmul_precision`). On a GPU the products of bf16-mixed are cast in the graph."""


def check_precision(precision: Precision, device: torch.device, compiled: bool = True) -> None:
    """Raise a `UserError` if a device cannot compute so.

    Args:
        precision: as configured.
        device: of the run.
        compiled: whether updates may be compiled.
    """
    if precision == "float32":
        return
    if device.type != "cuda":
        if precision == "tf32":
            raise UserError("precision=tf32 is for NVIDIA GPUs, the run's device is cpu: use float32 or bf16-mixed")
        found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        if not found.get("amx_bf16"):  # with AVX-512 BF16 alone oneDNN keeps to its float32 products
            raise UserError("precision=bf16-mixed needs a CPU with AMX, this one has none: use float32")
        return
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise UserError(f"precision={precision} needs an NVIDIA GPU from Ampere on, {device} is older: use float32")
    if precision == "bf16-mixed" and not compiled:
        raise UserError("precision=bf16-mixed on a GPU needs compiled updates: leave compile=auto, or use float32")


def process_precision() -> str | None:
    """Return what the process computes float32 products in; None where it was set through torch's newer switches."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to name one setting for several
        return None


@contextmanager
def products_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute float32 matrix products so for as long as this is entered, whatever the process computes them in.

    Operands, results and sums stay float32; with ``bf16-mixed`` a CPU rounds the operands to bfloat16 (8 significant
    bits) on their way into the product, with ``tf32`` a GPU rounds them to 11 bits. A process that has chosen for each
    backend (``torch.backends.….fp32_precision``) keeps its choice.
    """
    before = process_precision()
    if before is None:
        yield
        return
    torch.set_float32_matmul_precision((CUDA if device.type == "cuda" else CPU)[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
