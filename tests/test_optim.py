"""What optimisers are given."""

from __future__ import annotations

import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from balrl.agents import CQL
from balrl.agents.hyperparameters import CQLConfig
from balrl.optim import adam, anneal, coast, descend, in_blocks
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


@settings(max_examples=30)
@given(rows=st.integers(1, 12), width=st.integers(1, 12), cached=st.integers(1, 12))
def test_a_loss_in_blocks_is_the_loss(rows: int, width: int, cached: int) -> None:
    data = torch.randn(rows, 3, dtype=torch.float64)
    parameters = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def loss_of(part: slice) -> torch.Tensor:
        return (data[part] @ parameters[0]).mul(data[part] @ parameters[1]).exp().mean()

    whole = loss_of(slice(0, rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("balrl.optim.CACHED", cached)
        parts = in_blocks(loss_of, rows, width, parameters)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(
        torch.autograd.grad((3 * whole).square(), parameters), torch.autograd.grad((3 * parts).square(), parameters)
    )


def test_what_backward_needs_is_freed_with_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.optim.CACHED", 32)
    parameter, data, alive = torch.ones(2, requires_grad=True), torch.ones(64, 2), []

    def loss_of(part: slice) -> torch.Tensor:
        activations = (data[part] @ parameter).exp()
        assert not any(made() is not None for made in alive)
        alive.append(weakref.ref(activations))
        return activations.mean()

    in_blocks(loss_of, 64, 2, [parameter])
    assert len(alive) == 4


@pytest.mark.parametrize("options", [{}, {"importance_sampling": False}, {"critics": 3, "penalty_members": 1}])
def test_cql_s_penalty_in_blocks(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    found, data = [], random_batch(10, dtype=torch.float64)
    for cached in (10**9, 30):
        monkeypatch.setattr("balrl.optim.CACHED", cached)
        torch.manual_seed(0)
        agent = CQL(*SPACES, CQLConfig(hidden=(8, 8), **options)).double()  # type: ignore[arg-type]
        penalty = agent.penalty(data)
        found.append((penalty, *torch.autograd.grad(penalty, list(agent.critic.parameters()))))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("done", "length", "share"), [(0, 8, 1.0), (4, 8, 0.5), (8, 8, 0.0), (9, 8, 0.0), (5, None, 1.0)]
)
def test_a_step_size_follows_half_a_cosine(done: int, length: int | None, share: float) -> None:
    optimizer = adam([torch.nn.Parameter(torch.zeros(2))], 0.3, scheduled=True)
    anneal(optimizer, 0.3, torch.tensor(done), length)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(0.3 * share, abs=1e-15)


def test_coasting_is_adam_on_gradients_of_zero() -> None:
    """Two gradients, then three without: parameter and moments as in arXiv 1412.6980."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = adam([parameter], 0.1)
    slopes = torch.tensor([[3.0, -0.5], [-1.0, 0.25]], dtype=torch.float64)
    for slope in slopes:
        descend(optimizer, (slope * parameter).sum())
    for _ in range(3):
        coast(optimizer)
    expected, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t, g in enumerate([*slopes.numpy(), *np.zeros((3, 2))], 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(optimizer.state[parameter]["exp_avg"].numpy(), m, rtol=1e-12)


@pytest.mark.parametrize(("limit", "scale"), [(100.0, 1.0), (2.0, 0.4), (5.0, 1.0)])
def test_a_gradient_that_is_too_long_is_scaled_down_as_a_whole(limit: float, scale: float) -> None:
    """Of all parameters together: (3, 0) and (4) are 5 long."""
    first, second = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (2, 1))
    optimizer = adam([first, second], 0.1)
    descend(optimizer, 3 * first[0] + 4 * second[0], max_norm=limit)
    moments = [optimizer.state[p]["exp_avg"] / 0.1 for p in (first, second)]
    torch.testing.assert_close(moments[0], torch.tensor([3.0, 0.0], dtype=torch.float64) * scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(moments[1], torch.tensor([4.0], dtype=torch.float64) * scale, rtol=1e-6, atol=0)


def test_moments_are_there_from_the_start_and_are_put_back_by_name() -> None:
    one, other = CQL(*SPACES, CQLConfig(hidden=(4,))), CQL(*SPACES, CQLConfig(hidden=(4,)))
    fresh = one.optimizer_state()
    names = {name for name, p in one.named_parameters() if p.requires_grad}
    assert {key.rsplit(":", 1)[0] for key in fresh} == names
    assert {key.rsplit(":", 1)[1] for key in fresh} == {"step", "exp_avg", "exp_avg_sq"}
    assert not any(value.any() for value in fresh.values())
    for _ in range(2):
        one.update(random_batch(8))
    kept = {key: value.clone() for key, value in one.optimizer_state().items()}
    other.update(random_batch(8))
    other.load_optimizer_state({key: value for key, value in kept.items() if "policy" not in key})
    for key, value in other.optimizer_state().items():
        assert torch.equal(value, torch.zeros_like(value) if "policy" in key else kept[key]), key


def test_steps_of_optimisers_keep_the_fused_kernels_type() -> None:
    agent = CQL(*SPACES, CQLConfig(hidden=(4,))).double()
    for optimizer in agent.optimizers.values():
        for slots in optimizer.state.values():
            assert slots["step"].dtype == torch.float32
            assert slots["exp_avg"].dtype == torch.float64
