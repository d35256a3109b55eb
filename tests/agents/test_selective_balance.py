"""SSAR's balance, and what TD3+BC and CQL give it."""

from __future__ import annotations

import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agents import CQL, TD3BC, CQLConfig, FixedBalance, SelectiveBalance, TD3BCConfig
from balrl.agents.selective_balance import SelectiveBalanceModule
from balrl.policies import normal_log_prob, tanh_log_det
from balrl.random_stream import RandomStream
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def balance(**settings: object) -> SelectiveBalanceModule:
    torch.manual_seed(1)
    return SelectiveBalanceModule(SelectiveBalance(hidden=(8,), **settings), 3).double()  # type: ignore[arg-type]


def tick(module: SelectiveBalanceModule, online: bool, update: int, length: int | None) -> None:
    module.tick(online, torch.tensor(update), length)


def test_it_begins_as_the_fixed_balance() -> None:
    module = balance(coefficient=4.0)
    torch.nn.init.zeros_(module.head.weight)
    x = torch.randn(5, 3, dtype=torch.float64)
    penalty = torch.rand(2, 5, dtype=torch.float64)
    assert math.isclose(1 / (1 + math.exp(-math.log(2))), 2 / 3)
    torch.testing.assert_close(module.tightness(x), torch.full((5,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(module.constraint(penalty, x), penalty / 4)
    torch.testing.assert_close(module.mode(x), torch.full((5,), 4.0, dtype=torch.float64))
    assert torch.equal(module.weight(module.mode(x)), torch.ones(5, dtype=torch.float64))
    assert module.condition(x, module.mode(x)) is x


def test_its_loss() -> None:
    module = balance(coefficient=0.5)
    x = torch.randn(4, 3, dtype=torch.float64)
    slack, m = torch.tensor([0.1, -0.2, 0.3, -0.4]).double(), torch.tensor([1.0, 1, 0, 1]).double()
    f = module.head(module.trunk(x)).squeeze(-1)
    expected = (slack * 3 / (1 + torch.exp(-f)) * m).sum() / 4
    torch.testing.assert_close(module.loss(x, slack, m), expected)


def test_the_constraint_tightens_where_trusted_rows_are_further_than_the_bound() -> None:
    module = balance(learning_rate=0.01)
    x = torch.tensor([[5.0, 0, 0], [-5.0, 0, 0], [0, 5.0, 0]]).double()
    before = module.tightness(x).detach()

    def slack(n: Tensor) -> Tensor:
        return torch.tensor([-1.0, 1.0, -1.0]).double() * n

    for _ in range(200):
        module.adapt(x, slack, torch.tensor([1.0, 1.0, 0.0]), torch.tensor(1), 100)
    after = module.tightness(x).detach()
    assert after[0] > before[0] + 0.05
    assert after[1] < before[1] - 0.05
    assert (after < 1.5 / 2.5).all()


@pytest.mark.parametrize("slack", [-1.0, 0.5])
def test_the_bound_grows_by_tenths_while_trusted_rows_stray(slack: float) -> None:
    module = balance(bound=(1.0, 3.0), bound_steps=4)
    x = torch.randn(2, 3, dtype=torch.float64)
    found = []

    def strays(_: Tensor) -> Tensor:
        return torch.tensor([slack, 9.0]).double()

    for update in range(1, 101):
        tick(module, False, update, 100)
        module.adapt(x, strays, torch.tensor([1.0, 0.0]), torch.tensor(update), 100)
        found.append(float(module.bound))
    steps = [1.2, 1.4, 1.6, 1.8] if slack < 0 else [1.0] * 4
    assert np.allclose([found[i] for i in (23, 24, 49, 74, 99)], [1.0, *steps])
    for update in range(1, 101):  # another offline phase goes on from there
        tick(module, False, update, 100)
        module.adapt(x, strays, torch.tensor([1.0, 0.0]), torch.tensor(update), 100)
    assert float(module.bound) <= 3


def test_without_a_trusted_row_nothing_strays() -> None:
    module, x = balance(bound_steps=4), torch.randn(2, 3).double()

    def strays(_: Tensor) -> Tensor:
        return -torch.ones(2).double()

    for update in range(1, 8):
        module.adapt(x, strays, torch.zeros(2), torch.tensor(update), 7)
    assert float(module.bound) == 1.0
    for update in range(1, 8):
        module.adapt(x, strays, None, torch.tensor(update), 7)
    assert float(module.bound) <= 1.8 + 1e-6  # seven updates hold four checks at most


def test_it_begins_near_its_start_whatever_the_scale_of_states() -> None:
    found = SelectiveBalanceModule(SelectiveBalance(coefficient=1.0), 17).tightness(30 * torch.randn(500, 17))
    found = found.detach()
    assert 0.7 < float(found.min()) < float(found.max()) < 1.3


def test_it_lets_go_online() -> None:
    for release, half in (("linear", 0.5), ("cosine", math.cos(math.pi / 4))):
        module = balance(release=release, release_share=0.4)
        for update, left in ((0, 1.0), (200, half), (400, 0.0), (900, 0.0)):
            tick(module, True, update, 1000)
            assert math.isclose(float(module.left), left, abs_tol=1e-6)
            penalty = torch.ones(2, dtype=torch.float64)
            assert torch.isfinite(module.mode(torch.zeros(2, 3, dtype=torch.float64))).all()
            assert float(module.constraint(penalty, torch.zeros(2, 3).double())[0]) == pytest.approx(
                float(module.tightness(torch.zeros(2, 3).double())[0].detach()) * left, abs=1e-6
            )
        tick(module, False, 1, 1000)
        assert float(module.left) == 1


def test_td3bcs_policy_loss_and_slack() -> None:
    agent = TD3BC(*SPACES, TD3BCConfig(hidden=(8, 8), balance=SelectiveBalance(hidden=(8,)))).double()
    x, actions = torch.randn(6, 3).double(), (2 * torch.rand(6, 2) - 1).double()
    with torch.no_grad():
        chosen, q = agent.policy(x), agent.critic(x, agent.policy(x))[0]
        squares = (chosen - actions).square()
        expected = (squares.mean(-1) * agent.balance.tightness(x) - q / q.abs().mean()).mean()
        loss, _ = agent.policy_loss(x, actions, agent.balance.mode(x))
        torch.testing.assert_close(loss, expected)
        found = agent.slack(x, actions, torch.tensor(2.0))
    torch.testing.assert_close(found, 0.04 - squares.clamp(max=1).mean(-1))


def test_td3bc_under_a_constraint_that_does_not_move_is_td3bc_scaled() -> None:
    losses = []
    for kind in (SelectiveBalance(hidden=(8,), coefficient=2.5), FixedBalance(2.5)):
        torch.manual_seed(0)
        agent = TD3BC(*SPACES, TD3BCConfig(hidden=(8, 8))).double()
        own = TD3BC(*SPACES, TD3BCConfig(hidden=(8, 8), balance=kind)).double()
        own.policy.load_state_dict(agent.policy.state_dict())
        own.critic.load_state_dict(agent.critic.state_dict())
        if isinstance(own.balance, SelectiveBalanceModule):
            torch.nn.init.zeros_(own.balance.head.weight)
        torch.manual_seed(3)
        x, actions = torch.randn(6, 3).double(), torch.rand(6, 2).double()
        losses.append(own.policy_loss(x, actions, own.balance.mode(x))[0])
    torch.testing.assert_close(2.5 * losses[0], losses[1])


@pytest.mark.parametrize("policy", ["tanh-gaussian", "gaussian"])
def test_cqls_slack_and_penalty(policy: str) -> None:
    kind = SelectiveBalance(hidden=(8,), coefficient=0.1)
    config = CQLConfig(hidden=(8, 8), sampled_actions=2, policy=policy, alpha=1.0, balance=kind)
    agent = CQL(*SPACES, config).double()
    x, actions = torch.randn(6, 3).double(), (1.8 * torch.rand(6, 2) - 0.9).double()
    squash = policy == "tanh-gaussian"
    with torch.no_grad():
        mean, log_std = agent.policy(x)

        def density(raw: Tensor) -> Tensor:
            return normal_log_prob(raw, mean, log_std) - (tanh_log_det(raw) if squash else 0)

        def raw(a: Tensor) -> Tensor:
            return torch.atanh(a) if squash else a

        mode = torch.tanh(mean) if squash else mean
        std = log_std.exp()
        if squash:

            def beyond(n: float, side: float) -> Tensor:
                cap = torch.tanh(side * mean) + 0.1 * n  # beyond the border there is none
                capped = torch.tensor([math.atanh(c) if c < 1 else math.inf for c in cap.flatten().tolist()])
                return side * torch.minimum(side * mean + n * std, capped.double().reshape(cap.shape))

            near, far = ([beyond(n, 1.0), beyond(n, -1.0)] for n in (1.0, 10.0))
        else:
            near = [torch.minimum(mean + std, mode + 0.1), torch.maximum(mean - std, mode - 0.1)]
            far = [torch.minimum(mean + 10 * std, mode + 1), torch.maximum(mean - 10 * std, mode - 1)]
        bound, limit = ((density(one) + density(other)) / 2 for one, other in (near, far))
        expected = torch.maximum(density(raw(actions)), limit) - bound
        torch.testing.assert_close(agent.slack(x, actions, torch.tensor(1.0).double()), expected, rtol=1e-3, atol=1e-3)
        batch = random_batch(6, dtype=torch.float64)
        agent.stream = RandomStream(0)
        found = agent.penalty(batch)
        agent.stream = RandomStream(0)
        drawn, density = agent._sampled_actions(agent._normalized(batch))
        q = agent.critic(batch.observations.expand(6, 6, 3).reshape(36, 3), drawn.reshape(36, 2)).unflatten(-1, (6, 6))
        excess = torch.logsumexp(q - density, -2) - agent.critic(batch.observations, batch.actions)
        torch.testing.assert_close(found, (excess * agent.balance.tightness(batch.observations)).mean())


@pytest.mark.parametrize("mean", [8.0, -8.0])
def test_cqls_slack_sees_a_saturated_policy_stray(mean: float) -> None:
    config = CQLConfig(hidden=(8,), alpha=1.0, balance=SelectiveBalance(hidden=(8,), coefficient=0.1))
    agent = CQL(*SPACES, config).double()
    torch.nn.init.zeros_(agent.policy.mean.weight)
    torch.nn.init.constant_(agent.policy.mean.bias, mean)
    other = -0.9 * torch.ones(3, 2).double() * (1 if mean > 0 else -1)
    slack = agent.slack(torch.randn(3, 3).double(), other, torch.tensor(1.0).double())
    assert (slack < -20).all()


def test_a_selective_balance_stands_in_alphas_place() -> None:
    with pytest.raises(ValueError, match="set alpha to 1, it is 5"):
        CQLConfig(balance=SelectiveBalance())


def test_trust_is_asked_for_offline_only() -> None:
    for kind, config in ((TD3BC, TD3BCConfig), (CQL, partial(CQLConfig, alpha=1.0))):
        agent = kind(*SPACES, config(hidden=(8,), balance=SelectiveBalance(hidden=(8,))))
        assert agent.fields_in("offline") == ("trusted",)
        assert agent.fields_in("online") == ()
        assert kind(*SPACES, config(hidden=(8,))).fields_in("offline") == ()
