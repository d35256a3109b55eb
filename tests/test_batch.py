"""Batches: rows, parts, joins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from balrl.batch import Batch
from tests.conftest import random_batch


@given(count=st.integers(1, 5), size=st.integers(1, 4))
def test_split_and_joined_again_is_the_same(count: int, size: int) -> None:
    batch = random_batch(count * size)
    parts = batch.split(count)
    assert [len(part.rewards) for part in parts] == [size] * count
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part)
    for one, other in zip(batch, joined, strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


def test_rows_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ValueError, match="7 rows cannot be divided into 2 equal parts"):
        random_batch(7).split(2)


def test_what_one_lacks_the_joined_lacks() -> None:
    both = random_batch(2).join(random_batch(3)._replace(mc_returns=None))
    assert both.mc_returns is None
    assert both.next_actions is not None
    assert len(both.next_actions) == 5
    parts = both.split(5)
    assert all(part.mc_returns is None for part in parts)


def test_rows_of_every_field() -> None:
    batch = random_batch(6)
    chosen = torch.tensor([4, 0])
    for kept, field in zip(batch.rows(chosen), batch, strict=True):
        assert torch.equal(kept, field[chosen])  # type: ignore[arg-type,index]
    assert Batch(*batch[:5]).rows(slice(1, 3)).log_probs is None
