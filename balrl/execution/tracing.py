"""An update as one flat graph: sampling, losses, gradients, optimisers and target networks, state in, state changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from balrl.agent import Metrics
from balrl.vmap import rows

Update = Callable[[], Metrics]
aten = torch.ops.aten


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


def trace(update: Update) -> Traced:
    """Record what one call of `update` does to its tensors. The call is made: whoever asks puts the state back.

    Python is gone from the record: a branch that was taken is taken for ever, and so is the value of every number. What
    optimisers do is written out, in the form below, so that a compiler can merge it with the gradients.

    Raises:
        RuntimeError: when the update asks the host for a tensor's value.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    names: list[str] = []

    def record() -> tuple[Tensor, ...]:
        metrics = update()
        names.extend(metrics)
        return tuple(metrics.values())

    graph = make_fx(record, decomposition_table=WRITTEN_OUT)()
    inputs = _lift_constants(graph)
    _count_at_the_end(graph)
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


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    _: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    **__: Any,
) -> None:
    """``p ← p − lr √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε √(1 − β₂ᵗ))`` (arXiv 1412.6980, section 2), t of all alike.

    Steps and `lr` may be ``[K]``, for parameters ``[K, …]``. The powers are written with `exp`, which keeps a compiler
    from computing them anew for every parameter.
    """
    step = steps[0].double()
    unbias1 = 1 - torch.exp(step * math.log(beta1))
    unbias2 = (1 - torch.exp(step * math.log(beta2))).sqrt()
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        p.sub_(rows(lr * unbias2 / unbias1, p) * m / (v.sqrt() + rows(eps * unbias2, p)))


def _add_to_each(tensors: Sequence[Tensor], value: float) -> None:
    for tensor in tensors:
        tensor.add_(value)


def _lerp_each(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, weight)


def _add_product(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Add the bias after the product: a compiler merges that with the ReLU, where a library would copy it first."""
    return torch.matmul(x, weight) + bias


WRITTEN_OUT: Mapping[Any, Callable[..., Any]] = {
    aten._fused_adam_.default: adam_step,
    aten._fused_adam_.tensor_lr: adam_step,
    aten._foreach_add_.Scalar: _add_to_each,
    aten._foreach_lerp_.Scalar: _lerp_each,
    aten.addmm.default: _add_product,
    aten.baddbmm.default: _add_product,
}
