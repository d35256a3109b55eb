"""Matrix products by the library that is fastest at their shape on this machine.

Torch's float32 `mm` on a CPU is MKL's, which on CPUs of other makers uses half of their vector width; oneDNN, which
torch brings as well, does not. Which of the two is faster is measured, once per shape and machine, and kept beside the
compiler's cache, so that what a run computes does not depend on how busy the machine is. Both give the same numbers to
rounding.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, library

from balrl.execution.precision import process_precision

aten = torch.ops.aten
WORTH_MEASURING = 1 << 20
"""Multiplications from which a product is measured; smaller ones are nobody's bottleneck."""
MARGIN = 1.15
"""How much faster oneDNN has to be."""
MOST_MEMBERS = 20
"""Of an ensemble whose product is cut into one per member."""
ROUNDS, SECONDS = 7, 0.002
"""Turns of each library, and how long one takes."""


class Shape(NamedTuple):
    """Of ``[rows, inner] @ [inner, columns]``, and whether each operand lies transposed in memory."""

    rows: int
    inner: int
    columns: int
    first_transposed: bool = False
    second_transposed: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns

    def __str__(self) -> str:
        first, second = ("ᵀ" if t else "" for t in (self.first_transposed, self.second_transposed))
        return f"{self.rows}×{self.inner}{first} · {self.inner}×{self.columns}{second}"


class Rates(NamedTuple):
    """Operations a second of each library."""

    mkl: float
    onednn: float

    @property
    def onednn_wins(self) -> bool:
        """Whether it is worth leaving torch's own choice."""
        return self.onednn > MARGIN * self.mkl


@library.custom_op("balrl::onednn_product", mutates_args=())
def onednn_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``x @ weight`` ``[m, n]`` for float32 ``[m, k]`` and ``[k, n]``, computed by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight.t(), None, "none", [], "")


@onednn_product.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


class Products:
    """Chooses libraries, and remembers.

    Attributes:
        rates: of the shapes that were asked for.

    Args:
        folder: of the memory; None: the compiler's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.rates: dict[Shape, Rates] = {}
        self._folder = folder

    def of(self, shape: Shape) -> Rates:
        """Return the rates at a shape, measured if nobody did on this machine."""
        if shape not in self.rates:
            known = self._read()
            if repr(shape) not in known:
                known[repr(shape)] = measure(shape)
                self._write(known)
            self.rates[shape] = Rates(*known[repr(shape)])
        return self.rates[shape]

    def redirect(self, traced: fx.GraphModule) -> None:
        """Send the float32 products of a graph, in place, to the fastest library at their shapes.

        The products of an ensemble become one product per member where that is faster.
        """
        if not torch.backends.mkldnn.is_available() or process_precision() != "highest":
            return
        graph = traced.graph
        for node in [*graph.find_nodes(op="call_function", target=aten.mm.default)]:
            if self._is_onednns(node):
                node.target = torch.ops.balrl.onednn_product.default
        for node in [*graph.find_nodes(op="call_function", target=aten.bmm.default)]:
            members = _seen(node.args[0]).shape[0]
            if members <= MOST_MEMBERS and self._is_onednns(node):
                with graph.inserting_before(node):
                    parts = [
                        graph.call_function(
                            torch.ops.balrl.onednn_product.default,
                            tuple(graph.call_function(aten.select.int, (x, 0, i)) for x in node.args),
                        )
                        for i in range(members)
                    ]
                    node.replace_all_uses_with(graph.call_function(aten.stack.default, (parts, 0)))
                graph.erase_node(node)
        graph.lint()
        traced.recompile()

    def _is_onednns(self, node: fx.Node) -> bool:
        first, second = (_seen(x) for x in node.args[:2])
        if first.dtype != torch.float32:
            return False
        lies = [x.stride(-2) < x.stride(-1) for x in (first, second)]
        shape = Shape(first.shape[-2], first.shape[-1], second.shape[-1], *lies)
        return shape.flops >= 2 * WORTH_MEASURING and self.of(shape).onednn_wins

    def _file(self) -> Path:
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        described: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        machine = json.dumps([torch.__version__, torch.get_num_threads(), sorted(described.items())], default=str)
        name = hashlib.sha256(machine.encode()).hexdigest()[:16]
        return (self._folder or Path(cache_dir())) / f"balrl-products-{name}.json"

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file().read_text()))
        except (OSError, ValueError):
            return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        file = self._file()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_suffix(f".{time.monotonic_ns()}")
            new.write_text(json.dumps(known, indent=1))
            new.replace(file)
        except OSError:
            return  # it will be measured again


def _seen(node: Any) -> Tensor:
    """Return a tensor like the one that was there when the graph was recorded."""
    seen: Tensor = node.meta["val"]
    return seen


MACHINE = Products()
"""What is known of this machine."""


def measure(shape: Shape) -> Rates:
    """Time both libraries in turns; the fastest turn of each counts, which other work on the machine disturbs least."""
    x, y = torch.randn(shape.rows, shape.inner), torch.randn(shape.inner, shape.columns)
    x = x.t().contiguous().t() if shape.first_transposed else x
    y = y.t().contiguous().t() if shape.second_transposed else y
    weight = y.t()
    contestants: tuple[Callable[[], Tensor], ...] = (
        lambda: torch.mm(x, y),
        lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""),
    )
    best = [float("inf")] * 2
    with torch.no_grad():
        for _ in range(ROUNDS):
            for index, product in enumerate(contestants):
                count, start = 0, time.perf_counter()
                while count < 2 or time.perf_counter() - start < SECONDS:
                    product()
                    count += 1
                best[index] = min(best[index], (time.perf_counter() - start) / count)
    return Rates(*(shape.flops / seconds for seconds in best))


def teach_the_compiler() -> None:
    """Let torch's compiler call oneDNN directly, without a Python operation in between."""
    from torch._inductor import ir, mkldnn_ir
    from torch._inductor.lowering import lowerings, permute, register_lowering

    operation = torch.ops.balrl.onednn_product.default
    if operation in lowerings:
        return

    @register_lowering(operation, type_promotion_kind=None)
    def lower(x: Any, weight: Any) -> Any:
        x = ir.ExternKernel.realize_input(x)
        weight = ir.ExternKernel.realize_input(permute(weight, [1, 0]))
        size = [x.get_size()[0], weight.get_size()[0]]
        layout = ir.FixedLayout(device=x.get_device(), dtype=x.get_dtype(), size=size)
        called = mkldnn_ir.LinearUnary(layout=layout, inputs=[x, weight], constant_args=[None, "none", [-1], ""])
        return ir.TensorBox.create(mkldnn_ir._create_output_node(called))
