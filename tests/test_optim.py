"""What optimisers are given."""

from __future__ import annotations

import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from balrl.agents import CQL
from balrl.agents.config import CQLConfig
from balrl.optim import in_blocks
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 12), blocks=st.integers(1, 12))
def test_a_loss_in_blocks_is_the_loss(rows: int, blocks: int) -> None:
    data = torch.randn(rows, 3, dtype=torch.float64)
    parameters = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def loss_of(part: slice) -> torch.Tensor:
        return (data[part] @ parameters[0]).mul(data[part] @ parameters[1]).exp().mean()

    whole, parts = loss_of(slice(0, rows)), in_blocks(loss_of, rows, blocks, parameters)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(
        torch.autograd.grad((3 * whole).square(), parameters), torch.autograd.grad((3 * parts).square(), parameters)
    )


def test_what_backward_needs_is_freed_with_each_block() -> None:
    parameter, data, alive = torch.ones(2, requires_grad=True), torch.ones(64, 2), []

    def loss_of(part: slice) -> torch.Tensor:
        activations = (data[part] @ parameter).exp()
        assert not any(made() is not None for made in alive)
        alive.append(weakref.ref(activations))
        return activations.mean()

    in_blocks(loss_of, 64, 4, [parameter])
    assert len(alive) == 4


@pytest.mark.parametrize("options", [{}, {"importance_sampling": False}, {"critics": 3, "penalty_members": 1}])
def test_cql_s_penalty_in_blocks(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    found, data = [], random_batch(10, dtype=torch.float64)
    for cached in (10**9, 30):
        monkeypatch.setattr("balrl.agents.cql.CACHED", cached)
        torch.manual_seed(0)
        agent = CQL(*SPACES, CQLConfig(hidden=(8, 8), **options)).double()  # type: ignore[arg-type]
        penalty = agent.penalty(data)
        found.append((penalty, *torch.autograd.grad(penalty, list(agent.critic.parameters()))))
    torch.testing.assert_close(found[0], found[1])
