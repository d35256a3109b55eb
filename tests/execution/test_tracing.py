"""An update as a graph."""

from __future__ import annotations

import pytest
import torch

from balrl.execution.tracing import WORDS, Metrics, adam_step, adam_step_together, aten, trace
from balrl.random_stream import RandomStream


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_an_update_draws_from_one_stream_is_drawn_at_once(device: str) -> None:
    """The same numbers, from one operation on a CPU, and in arithmetic that can be merged for a GPU."""
    stream, other = RandomStream(3), RandomStream(4)

    def update() -> Metrics:
        rows = stream.integers(1000, 5)
        noise = stream.normal(2, 3)
        return {"rows": rows, "noise": noise, "other": other.uniform(4), "last": stream.uniform(2, 2)}

    def start() -> None:
        for s in (stream, other):
            s.position.fill_(7)

    start()
    expected = update()
    start()
    traced = trace(update, device)
    draws = traced.graph.graph.find_nodes(op="call_function", target=WORDS)
    assert len(draws) == (2 if device == "cpu" else 0)
    start()
    values = dict(zip(traced.metrics, traced.graph(*traced.inputs), strict=True))
    for name, value in expected.items():
        assert torch.equal(values[name], value), name
    assert (int(stream.position), int(other.position)) == (7 + 5 + 12 + 4, 7 + 4)


@pytest.mark.parametrize("members", [(), (3,)])
def test_adam_for_all_parameters_at_once_is_adam_for_each(members: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shapes = [(*members, 2, 4), (*members, 4), members]
    made = [[torch.randn(shape, dtype=torch.float64) for shape in shapes] for _ in range(3)]
    made.append([torch.rand(shape, dtype=torch.float64) for shape in shapes])
    steps = [torch.full(members, 5.0) + torch.arange(3.0)[: members[0] if members else 1].reshape(members)] * 3
    rate = torch.tensor([1e-3, 1e-2, 0.1])[: members[0]].double() if members else 1e-3
    options = {"lr": rate, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    found = []
    for step in (adam_step, adam_step_together):
        p, g, m, v = ([x.clone() for x in tensors] for tensors in made)
        step(p, g, m, v, [], steps, **options)
        found.append([*p, *m, *v])
    for one, other, before in zip(*found, [*made[0], *made[2], *made[3]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)
        assert not torch.equal(one, before)


def test_products_are_cast_in_the_graph_of_a_gpu() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(8, 32), torch.randn(32, 16, requires_grad=True), torch.randn(16)
    members = torch.randn(3, 16, 4)

    def update() -> Metrics:
        hidden = torch.addmm(b, x, w).relu()
        q = torch.bmm(hidden.expand(3, -1, -1), members)
        [slope] = torch.autograd.grad(q.square().mean(), [w])
        return {"q": q.detach(), "slope": slope}

    expected = update()
    traced = trace(update, "cuda", bf16=True)
    values = dict(zip(traced.metrics, traced.graph(*traced.inputs), strict=True))
    kinds = {str(n.target) for n in traced.graph.graph.nodes}
    assert {"aten.mm.default", "aten.bmm.default", "aten._to_copy.default"} <= kinds
    for name, value in expected.items():
        assert values[name].dtype == torch.float32
        difference = (values[name] - value).norm() / value.norm()
        assert 1e-4 < difference < 2e-2
