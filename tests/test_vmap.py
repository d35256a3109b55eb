"""Below vmap: the stack of which a member sees a row."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.vmap import rows, stacked, unstacked


def test_a_row_knows_its_stack_and_a_stack_its_rows() -> None:
    values = torch.randn(3, 4)
    seen: list[Tensor] = []

    def member(row: Tensor) -> Tensor:
        stack = stacked(row)
        seen.append(stack)
        return unstacked(2 * stack, row) + row

    assert torch.equal(torch.func.vmap(member)(values), 3 * values)
    assert torch.equal(seen[0], values)


def test_without_vmap_a_tensor_is_its_own_stack() -> None:
    value = torch.randn(4)
    assert stacked(value) is value
    assert unstacked(value, torch.zeros(2)) is value


def test_numbers_multiply_the_rows_of_a_stack() -> None:
    parameters = torch.ones(3, 2, 5, dtype=torch.float64)
    rates = torch.tensor([1.0, 2.0, 3.0])
    scaled = rows(rates, parameters) * parameters
    assert scaled.dtype == torch.float64
    assert torch.equal(scaled[:, 0, 0], rates.double())
    assert torch.equal(scaled, scaled[:, :1, :1].expand(3, 2, 5))
    assert rows(torch.tensor(2.0), parameters).shape == (1, 1, 1)
