"""Matrix products by the fastest library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balrl.agent import Metrics
from balrl.execution import products
from balrl.execution.products import Products, Rates, Shape, measure, onednn_product, teach_the_compiler
from balrl.execution.tracing import aten, trace

ONEDNN = torch.ops.balrl.onednn_product.default
FASTER, SLOWER = Rates(1e9, 2e9), Rates(1e9, 1.1e9)


def test_onednn_has_to_win_clearly() -> None:
    assert FASTER.onednn_wins
    assert not SLOWER.onednn_wins
    assert not Rates(2e9, 1e9).onednn_wins


def test_a_shape_is_measured_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Shape] = []
    monkeypatch.setattr(products, "measure", lambda shape: measured.append(shape) or FASTER)
    shapes = Shape(256, 256, 256), Shape(256, 256, 256, False, True)
    for _ in range(2):
        machine = Products(tmp_path)
        assert [machine.of(shape) for shape in (*shapes, *shapes)] == [FASTER] * 4
        assert machine.rates == dict.fromkeys(shapes, FASTER)
    assert measured == list(shapes)
    [file] = tmp_path.iterdir()
    file.write_text("{ nothing that could be read")
    assert Products(tmp_path).of(shapes[0]) == FASTER
    assert len(measured) == 3


def test_where_nothing_can_be_remembered_it_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "measure", lambda _: SLOWER)
    (tmp_path / "file").write_text("")
    assert Products(tmp_path / "file").of(Shape(256, 256, 256)) == SLOWER


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_measuring_takes_a_moment(transposed: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SECONDS", 1e-4)
    shape = Shape(64, 32, 16, *transposed)
    assert min(measure(shape)) > 1e6
    assert str(shape) == f"64×32{'ᵀ' * transposed[0]} · 32×16{'ᵀ' * transposed[1]}"


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.timeout(300))])
def test_redirected_products_are_the_same_products(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network and of an ensemble, forward and backward; what is small or not float32 stays where it is."""
    monkeypatch.setattr(products, "measure", lambda shape: SLOWER if shape.columns == 96 else FASTER)
    torch.manual_seed(0)
    x, single, other = torch.randn(128, 64), torch.randn(64, 128, requires_grad=True), torch.randn(64, 96)
    members = torch.randn(3, 128, 128, requires_grad=True)
    small, double = torch.randn(64, 4), torch.randn(64, 128, dtype=torch.float64)

    def update() -> Metrics:
        hidden = (x @ single).relu()
        q = torch.bmm(hidden.expand(3, -1, -1), members)
        gradients = torch.autograd.grad(q.square().mean(), [single, members])
        rest = {"other": x @ other, "small": x @ small, "double": x.double() @ double}
        return {"q": q.detach(), "single": gradients[0], "members": gradients[1], **rest}

    expected = update()
    traced = trace(update, products=Products(tmp_path).redirect)
    targets = [node.target for node in traced.graph.graph.nodes]
    # forward and weight gradient of the first layer; of each member forward, weight and input
    assert targets.count(ONEDNN) == 2 + 3 * 3
    assert targets.count(aten.mm.default) == 3
    assert aten.bmm.default not in targets
    function = traced.graph
    if compiled:
        teach_the_compiler()
        with torch._inductor.config.patch(cpp_wrapper=True):
            function = torch._dynamo.lookup_backend("inductor")(traced.graph, traced.inputs)
    with torch.no_grad():
        values = dict(zip(traced.metrics, function(*traced.inputs), strict=True))
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_other_precisions_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself sends the products of bf16-mixed to oneDNN."""
    monkeypatch.setattr(products, "measure", lambda _: FASTER)
    x = torch.randn(128, 128)
    torch.set_float32_matmul_precision("medium")
    try:
        traced = trace(lambda: {"y": x @ x}, products=Products(tmp_path).redirect)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert aten.mm.default in [node.target for node in traced.graph.graph.nodes]


def test_the_operation_is_the_product() -> None:
    x, y = torch.randn(7, 5), torch.randn(5, 3)
    torch.testing.assert_close(onednn_product(x, y), x @ y)
    torch.testing.assert_close(onednn_product(x.t().contiguous().t(), y.t().contiguous().t()), x @ y)
