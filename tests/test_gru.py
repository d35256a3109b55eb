"""The gated recurrent unit is torch's, forward and backward, and one operation however it is run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from balrl.execution.tracing import trace
from balrl.gru import GRU, gru, gru_gradient
from tests.agents import reference


def make() -> tuple[GRU, nn.GRU]:
    own, torchs = GRU(3, 4).double(), nn.GRU(3, 4, batch_first=True).double()
    own.input.bias.data.normal_()
    own.recurrent.bias.data.normal_()
    with torch.no_grad():
        for part, suffix in ((own.input, "ih"), (own.recurrent, "hh")):
            getattr(torchs, f"weight_{suffix}_l0").copy_(part.weight.T)
            getattr(torchs, f"bias_{suffix}_l0").copy_(part.bias)
    return own, torchs


def test_it_is_torch_s_and_its_gradient_too() -> None:
    own, torchs = make()
    x = torch.randn(5, 7, 3, dtype=torch.float64, requires_grad=True)
    ours, theirs = own(x), torchs(x)[0]
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn_like(ours)
    found = torch.autograd.grad((ours * towards).sum(), [x, *own.parameters()])
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    wanted = torch.autograd.grad((theirs * towards).sum(), [x, *(getattr(torchs, name) for name in names)])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b if a.shape == b.shape else b.T)


def test_step_by_step_it_is_the_whole_sequence_and_the_one_written_by_hand() -> None:
    own, _ = make()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    whole, h = own(x), torch.zeros(2, 4, dtype=torch.float64)
    for t in range(6):
        h = own.step(x[:, t], h)
        torch.testing.assert_close(h, whole[:, t])
    for row in range(2):
        by_hand = torch.from_numpy(reference.gru(own, x[row].numpy()))
        torch.testing.assert_close(whole[row], by_hand)


def test_a_cut_changes_no_value_and_lets_no_gradient_through() -> None:
    own, _ = make()
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    cut = own(x, 2)
    assert torch.equal(cut, own(x))
    [late] = torch.autograd.grad(cut[:, 2:].sum(), x, retain_graph=True)
    assert not late[:, :2].any()
    assert late[:, 2:].any()
    [early] = torch.autograd.grad(cut[:, :2].sum(), x)
    assert early[:, :2].any()
    assert torch.equal(own(x, 6), own(x))


def test_members_of_a_population_are_stacks() -> None:
    units = [make()[0] for _ in range(3)]
    x, start = torch.randn(6, 2, 12, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    stacks = [torch.stack([u.recurrent.weight for u in units]), torch.stack([u.recurrent.bias for u in units])]
    stacks = [s.detach().requires_grad_() for s in stacks]

    def of(weight: Tensor, bias: Tensor) -> Tensor:
        return gru(x, start, weight, bias)[0]

    together = torch.func.vmap(of)(*stacks)
    found = torch.autograd.grad(together.square().sum(), stacks)
    for i, unit in enumerate(units):
        alone = of(unit.recurrent.weight, unit.recurrent.bias)
        torch.testing.assert_close(together[i], alone)
        wanted = torch.autograd.grad(alone.square().sum(), list(unit.recurrent.parameters()))
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a[i], b)


def test_a_recorded_update_has_one_operation_for_all_steps() -> None:
    own, _ = make()
    x = torch.randn(2, 50, 3, dtype=torch.float64)

    def update() -> dict[str, Tensor]:
        loss = own(x).sum()
        return {"norm": torch.stack([g.norm() for g in torch.autograd.grad(loss, list(own.parameters()))]).sum()}

    nodes = trace(update).graph.graph.nodes
    names = [str(node.target) for node in nodes]
    assert [sum(word in name for name in names) for word in ("balrl.gru.", "balrl.gru_gradient.")] == [1, 1]
    assert len(names) < 100


@pytest.mark.parametrize("lead", [(), (3,)])
def test_what_torch_asks_of_operations(lead: tuple[int, ...]) -> None:
    shapes = (6, 2, 12), (2, 4), (4, 12), (12,)
    given = [torch.randn(*lead, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    torch.library.opcheck(gru, given)
    outputs = gru(*given)
    detached = [x.detach() for x in (torch.randn_like(outputs[0]), *given[1:3], *outputs)]
    torch.library.opcheck(gru_gradient, detached)
