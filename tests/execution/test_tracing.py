"""An update as a graph."""

from __future__ import annotations

import torch

from balrl.execution.tracing import Metrics, aten, trace


def test_counters_are_moved_once_and_every_reader_sees_its_own_moment() -> None:
    counter, steps, other = torch.tensor(10), torch.zeros(2), torch.tensor([1.0])

    def update() -> Metrics:
        first = counter * 2
        counter.add_(3)
        second = counter * 2
        steps.add_(1)
        third = (counter + steps).sum()
        counter.add_(4)
        other.mul_(2)
        counter.add_(0)
        return {"first": first, "second": second, "third": third, "last": counter * 1, "other": other * 1}

    traced = trace(update)  # which makes one
    assert (int(counter), steps.tolist(), float(other)) == (17, [1, 1], 2.0)
    values = dict(zip(traced.metrics, traced.graph(*traced.inputs), strict=True))
    assert {key: float(value) for key, value in values.items()} == {
        "first": 34.0,
        "second": 40.0,
        "third": 44.0,
        "last": 24.0,
        "other": 4.0,
    }
    assert (int(counter), steps.tolist(), float(other)) == (24, [2, 2], 4.0)
    changes = [node for node in traced.graph.graph.nodes if node.target is aten.add_.Tensor]
    assert [node.args[1] for node in changes] == [7, 1]
    assert changes[0].next is changes[1]
    assert changes[1].next.op == "output"


def test_the_same_update_is_recognised() -> None:
    state, counter = torch.zeros(3), torch.tensor(0)

    def update(factor: float = 2.0) -> Metrics:
        counter.add_(1)
        state.add_(factor * counter)
        return {"sum": state.sum()}

    one, again, another = trace(update), trace(update), trace(lambda: update(3.0))
    assert one.is_same(again)
    assert not one.is_same(another)
    moved = state.clone()
    assert not one.is_same(trace(lambda: {"sum": moved.add_(2.0 * counter.add_(1)).sum()}))
