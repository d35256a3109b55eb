"""``python -m tests.stand_in.kernels KIND…``: how many kernels an update is for a GPU, compiled, where there is none.

Torch's compiler writes its code for an H100 that is only described; nothing of it runs. Needs Triton to be importable.
"""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.stand_in import device  # noqa: F401  # before torch: its dispatcher then knows of CUDA devices

H100 = SimpleNamespace(
    name="H100",
    type="cuda",
    index=0,
    major=9,
    minor=0,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    warp_size=32,
    gcnArchName="",
    total_memory=80 << 30,
    L2_cache_size=50 << 20,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
    clock_rate=1_980_000,
)


class _WrittenError(Exception):
    """The code is there, and need not be built."""


class _Driver:
    """What Triton asks its driver for."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    class utils:  # Triton's name
        @staticmethod
        def get_device_properties(_: int) -> dict[str, int]:
            shared = H100.shared_memory_per_block_optin
            return {"max_shared_mem": shared, "multiprocessor_count": 132, "max_num_regs": 65536, "warpSize": 32}


def describe_a_gpu() -> None:
    """Answer what the compiler asks about the device."""
    import torch
    import torch._dynamo.device_interface
    from torch.utils import _triton
    from triton.runtime.driver import driver

    driver.set_active(_Driver())
    cuda: Any = torch.cuda
    cuda.is_available = cuda.is_initialized = _triton.has_triton = _triton.has_triton_package = lambda *_, **__: True
    cuda.device_count = lambda: 1
    cuda.get_device_capability = lambda *_: (9, 0)
    cuda.get_device_properties = cuda._get_device_properties = lambda *_: H100
    cuda.get_rng_state = lambda *_: torch.get_rng_state()
    for name in ("_lazy_init", "synchronize", "set_rng_state"):
        setattr(cuda, name, lambda *_: None)
    for name in ("_exchange_device", "_maybe_exchange_device", "current_device"):
        setattr(cuda, name, lambda *_: 0)
    native: Any = torch._C
    for name in ("getDevice", "setDevice", "exchangeDevice", "maybeExchangeDevice", "getCurrentRawStream"):
        setattr(native, f"_cuda_{name}", lambda *_: 0)


def code_of(kind: str) -> str:
    """Return the compiled update's program: what it launches, in order."""
    import torch
    from torch._inductor.graph import GraphLowering
    from torch._subclasses.fake_tensor import FakeTensorMode

    from balrl.bench.updates import Subject
    from balrl.execution.compiling import INDUCTOR
    from balrl.execution.tracing import trace

    traced = trace(Subject(kind, "off").update, "cuda")
    gpu = torch.device("cuda", 0)
    for node in traced.graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": gpu}
    traced.graph.recompile()
    with FakeTensorMode():
        inputs = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=gpu) for x in traced.inputs]
    written: list[str] = []
    codegen = GraphLowering.codegen

    def stop_then(self: GraphLowering) -> Any:
        written.append(codegen(self)[0].value)
        raise _WrittenError

    # what would have to run on the device while compiling is left out
    options = {"fx_graph_cache": False, "joint_graph_constant_folding": False}
    with (
        torch._inductor.config.patch(**INDUCTOR["cuda"], **options),
        mock.patch.object(GraphLowering, "codegen", stop_then),
    ):
        try:
            torch._dynamo.lookup_backend("inductor")(traced.graph, inputs)
        except Exception as error:
            if not written:
                raise error
    return written[0][written[0].index("def call(") :]


def main() -> None:
    import balrl.bench.updates
    import balrl.optim

    describe_a_gpu()
    balrl.bench.updates.ROWS = 2_000
    balrl.optim.CACHED = sys.maxsize  # blocks are for a CPU's cache
    counts = {}
    for kind in sys.argv[1:]:
        program = code_of(kind)
        own, libraries = len(re.findall(r"\w+\.run\(", program)), len(re.findall(r"extern_kernels\.\w+\(", program))
        others = re.findall(r"= torch\.ops\.[\w.]+\(", program)
        assert not others, others
        counts[kind] = own + libraries
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
