from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from pydantic import ValidationError
from torch.distributions import Normal

from balrl.agents.balance import FixedBalanceModule, StateAdaptiveBalanceModule, make_balance
from balrl.agents.hyperparameters import FixedBalance, IQLConfig, StateAdaptiveBalance
from balrl.random_stream import RandomStream

STREAM = RandomStream(0)


def model(low: float = 1.0, high: float = 5.0, **config: object) -> StateAdaptiveBalanceModule:
    return StateAdaptiveBalanceModule(StateAdaptiveBalance(low, high, hidden=(6,), **config), 3).double()


@given(st.floats(0.01, 10), st.floats(0, 10), st.integers(0, 1000))
def test_balances_stay_in_their_range(low: float, width: float, seed: int) -> None:
    torch.manual_seed(seed)
    balance = model(low, low + width)
    observations = 100 * torch.randn(50, 3, dtype=torch.float64)
    for values in (
        balance.sample(observations, online=False, stream=STREAM),
        balance.sample(observations, online=True, stream=STREAM),
        balance.mode(observations),
        balance.coefficients(balance.draw(observations, STREAM)[0]),
    ):
        assert values.shape == (50,)
        assert (values >= low - 1e-9).all()
        assert (values <= low + width + 1e-9).all()


def test_the_affine_map_is_the_paper_s_and_never_negative() -> None:
    """(u + 1)/2 · (max − min) + min: −1 gives min and 1 gives max; a known release mapped [0.5, 1.5] to (−0.5, 1.5)."""
    balance = model(0.5, 1.5)
    assert balance.coefficients(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.5, 1.0, 1.5]


def test_offline_balances_are_uniform_and_fresh() -> None:
    balance = model()
    observations = torch.zeros(20_000, 3, dtype=torch.float64)
    values = balance.sample(observations, online=False, stream=STREAM)
    assert values.mean().item() == pytest.approx(3.0, abs=0.03)
    assert values.var().item() == pytest.approx(16 / 12, abs=0.03)
    assert not torch.equal(values, balance.sample(observations, online=False, stream=STREAM))
    assert not values.requires_grad


def test_log_density_is_that_of_u_before_the_map() -> None:
    balance = model(2.0, 7.0)
    balance.log_std.data.fill_(-0.3)
    observations = torch.randn(9, 3, dtype=torch.float64)
    u, log_prob = balance.draw(observations, STREAM)
    mean = balance.mean(balance.trunk(observations)).squeeze(-1)
    expected = Normal(mean, math.exp(-0.3)).log_prob(torch.atanh(u)) - torch.log(1 - u**2)
    torch.testing.assert_close(log_prob, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("entropy", [True, False])
def test_loss(entropy: bool) -> None:
    balance = model(entropy=entropy)
    balance.log_temperature.data.fill_(0.4)
    observations = torch.randn(7, 3, dtype=torch.float64)
    STREAM.reseed(5)
    u, log_prob = balance.draw(observations, STREAM)
    beta = balance.coefficients(u)
    STREAM.reseed(5)
    loss, h, _ = balance.loss(observations, lambda b: -((b - 2) ** 2).expand(2, -1), STREAM)
    terms = [
        (math.exp(0.4) * lp if entropy else 0.0) + (b - 2) ** 2
        for b, lp in zip(beta.tolist(), log_prob.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert h.item() == pytest.approx(-log_prob.mean().item(), rel=1e-12)


def test_temperature_moves_towards_the_target_entropy() -> None:
    """L = temp · (H − H_target): temp falls while the entropy is above its target and rises while it is below."""
    for log_std, direction in ((0.0, -1), (-6.0, 1)):
        balance = model(learning_rate=1e-2)
        balance.log_std.data.fill_(log_std)
        balance.update(torch.randn(64, 3, dtype=torch.float64), lambda b: 0 * b[None], STREAM)
        assert math.copysign(1, balance.log_temperature.item()) == direction


def test_the_model_learns_where_improvement_pays() -> None:
    balance = StateAdaptiveBalanceModule(
        StateAdaptiveBalance(1.0, 5.0, hidden=(32,), learning_rate=3e-3, entropy=False), 1
    )
    for _ in range(600):
        observations = 2 * torch.rand(64, 1) - 1
        balance.update(observations, lambda b, o=observations: (torch.sign(o[:, 0]) * b)[None], STREAM)
    chosen = balance.mode(torch.tensor([[-0.8], [0.8]]))
    assert chosen[0] < 1.5
    assert chosen[1] > 4.5


def test_a_fixed_balance_conditions_on_nothing_and_learns_nothing() -> None:
    balance = make_balance(FixedBalance(2.5), 3)
    assert isinstance(balance, FixedBalanceModule)
    observations = torch.randn(4, 3)
    assert balance.sample(observations, online=True, stream=STREAM).tolist() == [2.5] * 4
    assert balance.condition(observations, balance.mode(observations)) is observations
    assert balance.update(observations, lambda b: b, STREAM) == {}
    assert not list(balance.parameters())


def test_configurations_are_checked() -> None:
    assert StateAdaptiveBalance(1.0, 5.0).maximum == 5.0
    assert FixedBalance(3.0).coefficient == 3.0
    with pytest.raises(ValidationError, match=r"minimum 3\.0 is above maximum 2\.0"):
        StateAdaptiveBalance(3.0, 2.0)
    with pytest.raises(ValidationError):
        StateAdaptiveBalance(-1.0, 2.0)
    with pytest.raises(ValidationError):
        StateAdaptiveBalance(1.0, 2.0, embedding_dim=5)
    parsed = IQLConfig.model_validate({"balance": {"kind": "state-adaptive", "minimum": 8, "maximum": 14}})
    assert parsed.balance == StateAdaptiveBalance(8.0, 14.0)


@pytest.mark.parametrize(("log_std", "inside"), [(-50.0, -10.0), (-10.5, -10.0), (5.0, 2.0), (2.5, 2.0), (1.0, 1.0)])
def test_the_deviation_stays_in_the_paper_s_range(log_std: float, inside: float) -> None:
    one, other = model(), model()
    other.load_state_dict(one.state_dict())
    one.log_std.data.fill_(log_std)
    other.log_std.data.fill_(inside)
    observations = torch.randn(6, 3, dtype=torch.float64)
    for got, expected in zip(
        one.draw(observations, RandomStream(1)), other.draw(observations, RandomStream(1)), strict=True
    ):
        assert torch.equal(got, expected)


def test_only_a_model_makes_a_family() -> None:
    adaptive, fixed = model(embedding_dim=4), make_balance(FixedBalance(2.0), 3)
    assert (adaptive.is_family, adaptive.every, adaptive.embedding_dim) == (True, 1, 4)
    assert (fixed.is_family, fixed.every, fixed.embedding_dim) == (False, 1, 0)


def test_a_log_family_is_uniform_in_the_logarithm_and_sees_it() -> None:
    balance = model(0.1, 10.0, scale="log")
    u = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(balance.coefficients(u), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64))
    drawn = balance.sample(torch.zeros(20_000, 3, dtype=torch.float64), online=False, stream=STREAM)
    assert (drawn < 1).double().mean().item() == pytest.approx(0.5, abs=0.02)
    inputs = balance.condition(torch.zeros(3, 3, dtype=torch.float64), balance.coefficients(u))
    torch.testing.assert_close(inputs[:, 3], torch.sin(torch.tensor([math.log(0.1), 0.0, math.log(10)]).double()))


@pytest.mark.parametrize(
    ("objective", "coefficient", "expected"), [("wco", None, 1.0), ("mean", None, 2.0), ("uwo", 0.5, 1.5)]
)
def test_the_model_maximises_the_objective_of_the_members_values(
    objective: str, coefficient: float | None, expected: float
) -> None:
    balance = model(entropy=False, objective=objective, objective_coefficient=coefficient)
    values = torch.tensor([[1.0], [3.0]], dtype=torch.float64).expand(2, 5)
    loss, _, _ = balance.loss(torch.randn(5, 3, dtype=torch.float64), lambda b: values + 0 * b, STREAM)
    assert loss.item() == pytest.approx(-expected)


def test_a_chosen_member_acts_and_is_trained_on() -> None:
    balance, observations = model(), torch.randn(50, 3, dtype=torch.float64)
    own = balance.mode(observations)
    balance.choose(0.0, 1.0)
    assert (balance.mode(observations) == 5.0).all()
    assert (balance.sample(observations, online=True, stream=STREAM) == 5.0).all()
    assert balance.sample(observations, online=False, stream=STREAM).std() > 0.5  # pre-training covers the family
    balance.choose(1.0, 0.5)  # an offset of a quarter of the range
    torch.testing.assert_close(balance.mode(observations), (own + 1.0).clamp(max=5.0))
    balance.choose(1.0, 0.0)
    assert torch.equal(balance.mode(observations), own)


def test_members_act_row_by_row() -> None:
    balance, observations = model(), torch.randn(3, 3, dtype=torch.float64)
    kept, shift = torch.tensor([1.0, 0.0, 1.0]).double(), torch.tensor([0.0, -1.0, 2.0]).double()
    found = balance.member(observations, kept, shift)
    assert found[0] == balance.mode(observations)[0]
    assert found[1:].tolist() == [1.0, 5.0]
