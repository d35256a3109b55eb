"""An update as one flat graph: sampling, losses, gradients, optimisers and target networks, state in, state changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from balrl.agent import Metrics
from balrl.random_stream import mixed
from balrl.vmap import rows

Update = Callable[[], Metrics]
WrittenOut = Mapping[Any, Callable[..., Any]]
aten = torch.ops.aten
WORDS = torch.ops.balrl.random_words.default


class Traced(NamedTuple):
    """A recorded update.

    Attributes:
        graph: takes `inputs`, changes them in place, and returns the values of `metrics` as a tuple.
        inputs: every tensor that the update touches and did not make itself: parameters, moments, replay, streams.
        metrics: their names.
    """

    graph: fx.GraphModule
    inputs: list[Tensor]
    metrics: tuple[str, ...]

    def is_same(self, other: Traced) -> bool:
        """Return whether both do the same to the same tensors."""
        return (
            self.metrics == other.metrics
            and [x.data_ptr() for x in self.inputs] == [x.data_ptr() for x in other.inputs]
            and self.graph.code == other.graph.code
        )


def trace(
    update: Update, device: str = "cpu", bf16: bool = False, products: Callable[[fx.GraphModule], None] | None = None
) -> Traced:
    """Record what one call of `update` does to its tensors. The call is made: whoever asks puts the state back.

    Python is gone from the record: a branch that was taken is taken for ever, and so is the value of every number. What
    optimisers do is written out, in the form below, so that a compiler can merge it with the gradients.

    Args:
        update: what is recorded.
        device: the type of device that the graph is for.
        bf16: cast the operands of matrix products to bfloat16, and the results back.
        products: changes the graph's matrix products.

    Raises:
        RuntimeError: when the update asks the host for a tensor's value.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    names: list[str] = []

    def record() -> tuple[Tensor, ...]:
        metrics = update()
        names.extend(metrics)
        return tuple(metrics.values())

    table = {**(ONE_BY_ONE if device == "cpu" else TOGETHER), **(IN_BF16 if bf16 else {})}
    graph = make_fx(record, decomposition_table=table)()
    if products is not None:
        products(graph)  # before the shapes that were seen are forgotten
    inputs = _lift_constants(graph)
    _count_at_the_end(graph)
    _draw_at_once(graph, inputs[0].device if device != "cpu" else None)
    return Traced(graph, inputs, tuple(names))


def _lift_constants(traced: fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into its inputs, one for each, and return them."""
    graph = traced.graph
    newest: fx.Node | None = None
    placeholders: dict[int, fx.Node] = {}
    inputs: list[Tensor] = []
    for node in list(graph.nodes):
        node.meta = {}
        if node.op == "get_attr":
            tensor = getattr(traced, node.target)
            if id(tensor) not in placeholders:
                with graph.inserting_after(newest) if newest else graph.inserting_before():
                    newest = placeholders[id(tensor)] = graph.placeholder(f"state_{len(inputs)}")
                inputs.append(tensor.detach())
            node.replace_all_uses_with(placeholders[id(tensor)])
            graph.erase_node(node)
        elif "record_function" in str(node.target):
            node.replace_all_uses_with(None)
            graph.erase_node(node)
    graph.lint()
    traced.recompile()
    return inputs


def _count_at_the_end(traced: fx.GraphModule) -> None:
    """Turn steps of a counter, ``x += 3; use(x); x += 2``, into ``use(x + 3); x += 5``.

    Random streams are advanced several times in an update. Torch 2.13's compiler, given an input that is changed more
    than once, lets some of what read it in between see a later value.
    """
    graph = traced.graph
    ahead: dict[fx.Node, int] = {}
    stands_for: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "placeholder":
            continue
        steps = node.target in (aten.add_.Tensor, aten.add_.Scalar) and isinstance(node.args[1], int)
        counter = stands_for.get(node.args[0], node.args[0]) if steps else None
        if counter is not None and counter.op == "placeholder":
            ahead[counter] = ahead.get(counter, 0) + node.args[1]
            stands_for[node] = counter
            continue
        for counter in dict.fromkeys(stands_for.get(used, used) for used in node.all_input_nodes):
            if ahead.get(counter):
                with graph.inserting_before(node):
                    now = graph.call_function(aten.add.Tensor, (counter, ahead[counter]))
                for old in (counter, *(n for n, c in stands_for.items() if c is counter)):
                    node.replace_input_with(old, now)
    for node in reversed(list(stands_for)):
        graph.erase_node(node)
    with graph.inserting_before(next(iter(graph.find_nodes(op="output")))):
        for counter, total in ahead.items():
            graph.call_function(aten.add_.Tensor, (counter, total))
    graph.lint()
    traced.recompile()


def _draw_at_once(traced: fx.GraphModule, spelled_out_on: torch.device | None) -> None:
    """Draw all the words that an update takes from one random stream in one operation, and cut them apart.

    Args:
        traced: what is changed.
        spelled_out_on: a device, on which the arithmetic takes the place of the opaque operation.
    """
    graph = traced.graph
    draws: dict[tuple[Any, Any], list[tuple[int, int, fx.Node]]] = {}
    for node in graph.find_nodes(op="call_function", target=WORDS):
        key, position, count = node.args
        start = 0
        if position.target is aten.add.Tensor and isinstance(position.args[1], int):
            position, start = position.args
        draws.setdefault((key, position), []).append((start, start + count, node))
    for (key, position), parts in draws.items():
        first, last = min(start for start, _, _ in parts), max(end for _, end, _ in parts)
        with graph.inserting_before(parts[0][2]):
            begin = graph.call_function(aten.add.Tensor, (position, first)) if first else position
            if spelled_out_on is None:
                words = graph.call_function(WORDS, (key, begin, last - first))
            else:
                steps = graph.call_function(torch.arange, (1, last - first + 1), {"device": spelled_out_on})
                words = mixed(fx.Proxy(key), fx.Proxy(begin), fx.Proxy(steps)).node
        for start, end, node in parts:
            with graph.inserting_before(node):
                part = graph.call_function(aten.slice.Tensor, (words, -1, start - first, end - first))
            node.replace_all_uses_with(part)
            where = node.all_input_nodes[1]
            graph.erase_node(node)
            if not where.users and where.op != "placeholder":
                graph.erase_node(where)
    graph.lint()
    traced.recompile()


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    _: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    beta1: float,
    beta2: float,
    **options: Any,
) -> None:
    """``p ← p − lr √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε √(1 − β₂ᵗ))`` (arXiv 1412.6980, section 2), t of all alike.

    Steps and `lr` may be ``[K]``, for parameters ``[K, …]``.
    """
    rate, least = _unbiased(steps[0], beta1, beta2, **options)
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        p.sub_(rows(rate, p) * m / (v.sqrt() + rows(least, p)))


def adam_step_together(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    _: list[Tensor],
    steps: list[Tensor],
    *,
    beta1: float,
    beta2: float,
    **options: Any,
) -> None:
    """`adam_step`, every operation of which is one for all parameters."""
    rate, least = _unbiased(steps[0], beta1, beta2, **options)
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    below = torch._foreach_add(torch._foreach_sqrt(squares), [rows(least, p) for p in parameters])
    above = torch._foreach_mul(means, [rows(rate, p) for p in parameters])
    torch._foreach_sub_(parameters, torch._foreach_div(above, below))


def _unbiased(
    step: Tensor, beta1: float, beta2: float, *, lr: float | Tensor, eps: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """Return ``lr √(1 − β₂ᵗ) / (1 − β₁ᵗ)`` and ``ε √(1 − β₂ᵗ)``.

    The powers are written with `exp`, which keeps a compiler from computing them anew for every parameter.
    """
    step = step.double()
    unbias1 = 1 - torch.exp(step * math.log(beta1))
    unbias2 = (1 - torch.exp(step * math.log(beta2))).sqrt()
    return lr * unbias2 / unbias1, eps * unbias2


def _add_to_each(tensors: Sequence[Tensor], value: float) -> None:
    for tensor in tensors:
        tensor.add_(value)


def _lerp_each(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, weight)


def _add_product(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Add the bias after the product: a compiler merges that with the ReLU, where a library would copy it first."""
    return torch.matmul(x, weight) + bias


def _in_bf16(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the product of operands that are cast, its result cast back."""

    def cast(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return NotImplemented  # what is cast already
        return product(x.bfloat16(), y.bfloat16()).float()

    return cast


ONE_BY_ONE: WrittenOut = {
    aten._fused_adam_.default: adam_step,
    aten._fused_adam_.tensor_lr: adam_step,
    aten._foreach_add_.Scalar: _add_to_each,
    aten._foreach_lerp_.Scalar: _lerp_each,
    aten.addmm.default: _add_product,
    aten.baddbmm.default: _add_product,
}
"""For a CPU: what is done to each parameter is merged with what made its gradient."""
TOGETHER: WrittenOut = {
    aten._fused_adam_.default: adam_step_together,
    aten._fused_adam_.tensor_lr: adam_step_together,
    aten.addmm.default: _add_product,
    aten.baddbmm.default: _add_product,
}
"""For a GPU: what is done to many parameters is launched once."""
IN_BF16: WrittenOut = {
    aten.mm.default: _in_bf16(torch.mm),
    aten.bmm.default: _in_bf16(torch.bmm),
}
"""For GPUs, which round to bfloat16 nowhere by themselves."""
