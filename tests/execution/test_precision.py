"""How precisely matrix products are computed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from balrl.errors import UserError
from balrl.execution.precision import check_precision, products_in

CPU = torch.device("cpu")
HAS_BF16 = torch.cpu.get_capabilities().get("amx_bf16")


def test_float32_is_there_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    check_precision("float32", CPU)


def test_what_a_cpu_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    with pytest.raises(UserError, match="this one has none: use float32"):
        check_precision("bf16-mixed", CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    check_precision("bf16-mixed", CPU)
    with pytest.raises(UserError, match="for NVIDIA GPUs, the run's device is cpu"):
        check_precision("tf32", CPU)


def test_what_a_gpu_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(UserError, match="tf32 needs an NVIDIA GPU from Ampere on"):
        check_precision("tf32", gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    check_precision("tf32", gpu, compiled=False)
    check_precision("bf16-mixed", gpu)
    with pytest.raises(UserError, match="needs compiled updates"):
        check_precision("bf16-mixed", gpu, compiled=False)


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no AMX")
def test_operands_are_rounded_and_sums_are_not() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 256), torch.randn(256, 64)
    exact, rounded = x @ y, (x.bfloat16().double() @ y.bfloat16().double()).float()
    with products_in("bf16-mixed", CPU):
        found = x @ y
        with products_in("float32", CPU):
            assert torch.equal(x @ y, exact)
    assert torch.equal(x @ y, exact)
    torch.testing.assert_close(found, rounded, rtol=1e-4, atol=1e-4)
    assert (found - exact).abs().max() > 0.01
    assert found.dtype == torch.float32


def test_a_process_that_has_chosen_for_each_backend_keeps_its_choice() -> None:
    """Torch cannot name one setting then, nor put it back; in a process of its own, because nothing undoes it."""
    program = """
import torch
from balrl.execution.precision import process_precision, products_in
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
assert process_precision() is None
with products_in("float32", torch.device("cpu")):
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
