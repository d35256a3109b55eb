from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from balrl.networks import MLP, Normalizer, QEnsemble, Value, polyak_update, sinusoidal_embedding
from balrl.random_stream import RandomStream


def test_one_network_equals_the_formula() -> None:
    value = Value(3, (5, 4)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    h = x.numpy()
    for layer in value.trunk.layers:
        h = np.maximum(h @ layer.weight.detach().numpy() + layer.bias.detach().numpy(), 0)
    expected = h @ value.head.weight.detach().numpy() + value.head.bias.item()
    np.testing.assert_allclose(value(x).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_member_alone_computes_what_it_computes_in_the_ensemble(layer_norm: bool) -> None:
    ensemble = QEnsemble(3, 2, (8, 8), members=4, layer_norm=layer_norm).double()
    observations, actions = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    together = ensemble(observations, actions)
    assert together.shape == (4, 7)
    for i in range(4):
        alone = QEnsemble(3, 2, (8, 8), members=1, layer_norm=layer_norm).double()
        alone.load_state_dict({key: value[i : i + 1] for key, value in ensemble.state_dict().items()})
        torch.testing.assert_close(alone(observations, actions)[0], together[i], rtol=1e-12, atol=1e-12)


def test_members_do_not_mix_in_gradients() -> None:
    ensemble = QEnsemble(3, 2, (8,), members=3)
    ensemble(torch.randn(5, 3), torch.randn(5, 2))[1].sum().backward()
    for parameter in ensemble.parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().sum() == 0
        assert parameter.grad[2].abs().sum() == 0
    assert ensemble.head.weight.grad[1].abs().sum() > 0


def test_initial_weights_are_orthogonal_with_gain_root_two_per_member() -> None:
    ensemble = QEnsemble(30, 2, (16, 16), members=2)
    for member in ensemble.trunk.layers[1].weight:
        torch.testing.assert_close(member @ member.T, 2 * torch.eye(16), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ensemble.head.weight.norm(dim=-1), torch.full((2,), math.sqrt(2.0)))
    assert all(not layer.bias.any() for layer in ensemble.trunk.layers)
    assert not torch.equal(ensemble.trunk.layers[0].weight[0], ensemble.trunk.layers[0].weight[1])


def test_dropout_only_where_asked_for() -> None:
    mlp = MLP(4, (64,), dropout=0.5)
    x = torch.randn(3, 4)
    torch.testing.assert_close(mlp(x), mlp(x))
    stream = RandomStream(0)
    assert not torch.equal(mlp(x, dropout=stream), mlp(x, dropout=stream))
    many = torch.stack([mlp(x, dropout=stream) for _ in range(2_000)])
    torch.testing.assert_close(many.mean(0), mlp(x), rtol=0, atol=0.25)


def test_embedding_is_the_paper_s() -> None:
    beta = torch.tensor([1.5, 5.0], dtype=torch.float64)
    embedded = sinusoidal_embedding(beta, 6)
    for row, b in zip(embedded.tolist(), (1.5, 5.0), strict=True):
        expected = []
        for i in range(3):
            expected += [math.sin(b / 10_000 ** (2 * i / 6)), math.cos(b / 10_000 ** (2 * i / 6))]
        assert row == pytest.approx(expected, rel=1e-12)


@given(st.floats(0, 100), st.sampled_from([2, 4, 6, 16]))
def test_embedding_pairs_lie_on_the_unit_circle(beta: float, width: int) -> None:
    embedded = sinusoidal_embedding(torch.tensor([beta], dtype=torch.float64), width)[0].reshape(-1, 2)
    torch.testing.assert_close(embedded.square().sum(-1), torch.ones(width // 2, dtype=torch.float64))


def test_normalizer_is_the_identity_until_fitted_and_survives_constant_columns() -> None:
    normalizer = Normalizer(2)
    x = torch.tensor([[3.0, 7.0]])
    assert torch.equal(normalizer(x), x)
    normalizer.fit(torch.tensor([1.0, 7.0]), torch.tensor([2.0, 0.0]))
    assert torch.equal(normalizer(x), torch.tensor([[1.0, 0.0]]))
    assert set(normalizer.state_dict()) == {"mean", "std"}


@given(st.floats(0.001, 1))
def test_polyak_is_a_convex_combination(rate: float) -> None:
    source, target = Value(2, (3,)).double(), Value(2, (3,)).double()
    before = [p.clone() for p in target.parameters()]
    polyak_update(target, source, rate)
    for new, old, goal in zip(target.parameters(), before, source.parameters(), strict=True):
        torch.testing.assert_close(new, (1 - rate) * old + rate * goal)


@pytest.mark.parametrize("norm_after", [False, True])
def test_layer_norm_before_or_after_the_activation(norm_after: bool) -> None:
    net = MLP(3, (5, 4), layer_norm=True, activation="gelu", norm_after=norm_after).double()
    x = expected = torch.randn(6, 3, dtype=torch.float64)
    for layer in net.layers:
        expected = expected @ layer.weight + layer.bias
        for step in ("gelu", "norm") if norm_after else ("norm", "gelu"):
            if step == "gelu":
                expected = torch.nn.functional.gelu(expected, approximate="tanh")
            else:
                variance = expected.var(-1, correction=0, keepdim=True) + (1e-6 if norm_after else 1e-5)
                expected = (expected - expected.mean(-1, keepdim=True)) / variance.sqrt()
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
