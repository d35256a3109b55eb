from __future__ import annotations

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agent import Phase
from balrl.agents import IQL, FixedBalance, IQLConfig, StateAdaptiveBalance
from balrl.batch import Batch
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> IQL:
    """A tiny agent in float64 whose target critics differ from its critics."""
    agent = IQL(OBSERVATIONS, ACTIONS, IQLConfig(hidden=(5, 4), **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def batch64(rows: int = 6) -> Batch:
    return random_batch(rows, dtype=torch.float64)


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in batch._asdict().items() if value is not None}


def test_value_loss() -> None:
    agent, b = make(expectile=0.8), batch64()
    a = arrays(b)
    target_q = reference.q_values(agent.target_critic, a["observations"], a["actions"]).min(0)
    v = reference.state_value(agent.value, a["observations"])
    expected = 0.0
    for q_i, v_i in zip(target_q, v, strict=True):
        u = q_i - v_i
        expected += abs(0.8 - (1.0 if u < 0 else 0.0)) * u * u / len(v)
    loss, values = agent.value_loss(b.observations, torch.from_numpy(target_q))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(values.numpy(), v, rtol=1e-12)


def test_critic_loss_bootstraps_only_where_not_terminated() -> None:
    agent, b = make(discount=0.9), batch64()
    a = arrays(b)
    v_next = reference.state_value(agent.value, a["next_observations"])
    q = reference.q_values(agent.critic, a["observations"], a["actions"])
    expected = 0.0
    for member in range(2):
        for i in range(6):
            target = a["rewards"][i] + (0.0 if a["terminated"][i] else 0.9 * v_next[i])
            expected += (target - q[member, i]) ** 2 / 6
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("balance", [FixedBalance(3.0), StateAdaptiveBalance(1.0, 5.0, hidden=(4,))])
def test_policy_loss_with_per_sample_balance(balance: FixedBalance | StateAdaptiveBalance) -> None:
    agent, b = make(balance=balance), batch64()
    a = arrays(b)
    beta = np.linspace(1, 5, 6)
    advantages = np.array([-2.0, -0.1, 0.0, 0.3, 1.0, 4.0])  # 4 · 5 is clipped at weight 100
    inputs = a["observations"]
    if isinstance(balance, StateAdaptiveBalance):
        inputs = np.concatenate([inputs, reference.embed(beta, 6)], -1)
    log_prob = reference.gaussian_log_prob(agent.policy, inputs, a["actions"])
    weights = [min(math.exp(x * y), 100.0) for x, y in zip(beta, advantages, strict=True)]
    assert weights[-1] == 100.0
    expected = -sum(w * lp for w, lp in zip(weights, log_prob, strict=True)) / 6
    loss = agent.policy_loss(b.observations, b.actions, torch.from_numpy(advantages), torch.from_numpy(beta))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_one_update_in_the_paper_s_order() -> None:
    """V on the target critics, the policy with the new V, Q with the new V, polyak with the new Q."""
    agent, b = make(polyak=0.1, policy_schedule="constant"), batch64()
    old = copy.deepcopy(agent)
    agent.update(b)

    def params(module: torch.nn.Module) -> list[Tensor]:
        return list(module.parameters())

    with torch.no_grad():
        target_q = old.target_critic(b.observations, b.actions).min(0).values
    v = old.value(b.observations)
    u = target_q - v
    value_loss = ((agent.config.expectile - (u < 0).double()).abs() * u * u).mean()
    new_value = reference.first_adam_step(params(old.value), value_loss, 3e-4)
    for new, expected in zip(params(agent.value), new_value, strict=True):
        torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-12)

    with torch.no_grad():
        weights = (3.0 * (target_q - agent.value(b.observations))).exp().clamp(max=100)
    policy_loss = -(weights * old.policy.log_prob(b.observations, b.actions)).mean()
    for new, expected in zip(
        params(agent.policy), reference.first_adam_step(params(old.policy), policy_loss, 3e-4), strict=True
    ):
        torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-12)

    with torch.no_grad():
        target = b.rewards + 0.99 * (1 - b.terminated.double()) * agent.value(b.next_observations)
    critic_loss = (old.critic(b.observations, b.actions) - target).square().mean(1).sum()
    for new, expected in zip(
        params(agent.critic), reference.first_adam_step(params(old.critic), critic_loss, 3e-4), strict=True
    ):
        torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-12)

    for new, before, source in zip(
        params(agent.target_critic), params(old.target_critic), params(agent.critic), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * before + 0.1 * source, rtol=1e-9, atol=1e-12)


def test_a_family_s_policy_and_balance_model_step_on_their_own_losses_only() -> None:
    """Adam's first step shows the gradient: anything that leaked from another loss would change it."""
    agent, b = make(balance=StateAdaptiveBalance(1.0, 5.0, hidden=(4,)), policy_schedule="constant"), batch64()
    old, seen = copy.deepcopy(agent), {}
    policy_loss, improvement = agent.policy_loss, agent.improvement

    def spy_policy(observations: Tensor, actions: Tensor, advantages: Tensor, balance: Tensor) -> Tensor:
        seen["policy"] = (observations, actions, advantages, balance)
        return policy_loss(observations, actions, advantages, balance)

    def spy_improvement(observations: Tensor, balance: Tensor) -> Tensor:
        seen["balance"] = balance.detach()
        return improvement(observations, balance)

    agent.policy_loss, agent.improvement = spy_policy, spy_improvement  # type: ignore[method-assign]
    agent.stream.reseed(3)
    agent.update(b)
    wanted = reference.first_adam_step(list(old.policy.parameters()), old.policy_loss(*seen["policy"]), 3e-4)
    for new, expected in zip(agent.policy.parameters(), wanted, strict=True):
        torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-12)

    old.stream.reseed(3)
    old.balance.sample(b.observations, False, old.stream)
    loss, _, drawn = old.balance.loss(b.observations, lambda beta: old.improvement(b.observations, beta), old.stream)
    assert torch.equal(drawn, seen["balance"])
    model = [p for name, p in old.balance.named_parameters() if name != "log_temperature"]
    new_model = [p for name, p in agent.balance.named_parameters() if name != "log_temperature"]
    for new, expected in zip(new_model, reference.first_adam_step(model, loss, 3e-4), strict=True):
        torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-12)


def test_equal_bounds_make_the_family_iql() -> None:
    """spec: beta_min == beta_max gives IQL's V, Q and policy losses with that temperature, to float precision."""
    plain = make(balance=FixedBalance(2.5))
    family = make(balance=StateAdaptiveBalance(2.5, 2.5, hidden=(4,)))
    state = plain.state_dict()
    wide = family.policy.trunk.layers[0].weight.detach().clone().zero_()
    wide[:3] = state["policy.trunk.layers.0.weight"]
    state["policy.trunk.layers.0.weight"] = wide
    family.load_state_dict(state, strict=False)
    for phase in ("offline", "online"):
        one, other = copy.deepcopy(plain), copy.deepcopy(family)
        one.set_phase(phase)
        other.set_phase(phase)
        b = batch64()
        expected, got = one.update(b), other.update(b)
        for key in ("value/loss", "critic/loss", "policy/loss", "value/mean", "critic/q"):
            torch.testing.assert_close(got[key], expected[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("balance", [FixedBalance(3.0), StateAdaptiveBalance(1.0, 5.0, hidden=(4,))])
def test_each_loss_touches_its_own_network_only(balance: FixedBalance | StateAdaptiveBalance) -> None:
    """Zero learning rates everywhere but in one network: nothing else may move, targets apart."""
    for name in ("value", "policy", "critic"):
        agent, b = make(balance=balance, policy_schedule="constant"), batch64()
        for other, optimizer in agent.optimizers.items():
            if other != "policy":  # whose rate the configuration below sets
                optimizer.param_groups[0]["lr"] = 1e-2 if other == name else 0.0
        rate = {f"{name}_learning_rate": 1e-2}
        agent.config = agent.config.model_copy(update={"policy_learning_rate": rate.get("policy_learning_rate", 0.0)})
        before = {key: value.clone() for key, value in agent.state_dict().items()}
        agent.update(b)
        for key, value in agent.state_dict().items():
            moved = not torch.equal(value, before[key])
            owner = key.split(".")[0]
            if owner in ("target_critic", "clock", "stream"):
                continue
            assert moved == (owner == name) or key.endswith("log_std_range"), key


def test_balance_model_gradients_stop_at_the_balance_model() -> None:
    """spec: none of them reach the universal model, the critics or the value function, nor the other way round."""
    agent, b = make(balance=StateAdaptiveBalance(1.0, 5.0, hidden=(4,), learning_rate=1e-2)), batch64()
    for name, optimizer in agent.optimizers.items():
        if not name.startswith("balance") and name != "policy":
            optimizer.param_groups[0]["lr"] = 0.0
    agent.config = agent.config.model_copy(update={"policy_learning_rate": 0.0, "polyak": 1e-9})
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    agent.update(b)
    moved = {
        k
        for k, v in agent.state_dict().items()
        if not torch.equal(v, before[k]) and k.split(".")[0] not in ("target_critic", "clock", "stream")
    }
    assert moved
    assert all(key.startswith("balance.") for key in moved)
    assert "balance.log_temperature" in moved


def test_online_the_policy_s_balance_is_drawn_before_the_balance_model_moves() -> None:
    agent = make(balance=StateAdaptiveBalance(1.0, 5.0, hidden=(4,), learning_rate=0.5))
    agent.set_phase("online")
    b = batch64()
    seen: list[Tensor] = []
    original = agent.policy_loss

    def spy(observations: Tensor, actions: Tensor, advantages: Tensor, balance: Tensor) -> Tensor:
        seen.append(balance)
        return original(observations, actions, advantages, balance)

    agent.policy_loss = spy  # type: ignore[method-assign]
    expected = copy.deepcopy(agent.balance).sample(b.observations, True, copy.deepcopy(agent.stream))
    agent.update(b)
    assert torch.equal(seen[0], expected)
    assert not seen[0].requires_grad


def test_balance_model_is_updated_every_so_often() -> None:
    agent = make(balance=StateAdaptiveBalance(1.0, 5.0, hidden=(4,), every=3))
    moved = []
    for _ in range(6):
        before = agent.balance.mean.weight.clone()
        agent.update(batch64())
        moved.append(not torch.equal(before, agent.balance.mean.weight))
    assert moved == [False, False, True, False, False, True]


def test_policy_learning_rate_falls_as_a_cosine_offline_and_is_constant_online() -> None:
    agent = make(policy_learning_rate=1e-3)
    agent.set_phase("offline", 10)
    rates = []
    for _ in range(11):
        agent.update(batch64())
        rates.append(float(agent.optimizers["policy"].param_groups[0]["lr"]))
    expected = [1e-3 * 0.5 * (1 + math.cos(math.pi * min(t / 10, 1))) for t in range(11)]
    assert rates == pytest.approx(expected)
    agent.set_phase("online", 10)
    agent.update(batch64())
    assert agent.optimizers["policy"].param_groups[0]["lr"] == 1e-3


def test_a_family_acts_as_the_member_that_is_asked_for() -> None:
    agent = IQL(OBSERVATIONS, ACTIONS, IQLConfig(hidden=(8,), balance=StateAdaptiveBalance(1.0, 5.0, hidden=(4,))))
    observations = torch.randn(5, 3)
    low, high = (agent.act(observations, deterministic=True, balance=b) for b in (1.0, 5.0))
    assert not torch.equal(low, high)
    own = agent.balance.mode(observations)
    assert torch.equal(
        agent.act(observations, deterministic=True), agent.act(observations, deterministic=True, balance=own)
    )
    plain = IQL(OBSERVATIONS, ACTIONS)
    with pytest.raises(ValueError, match="not a family"):
        plain.act(observations, balance=2.0)


def test_rows_are_independent_and_losses_are_means_over_them() -> None:
    """A batch and the same batch twice give the same update: losses are means over the batch."""
    b = batch64()
    agents = []
    one = make(policy_schedule="constant")
    other = copy.deepcopy(one)
    one.update(b)
    other.update(b.join(b))
    agents += [one, other]
    for (key, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.parametrize(("schedule", "phase"), [("constant", "offline"), ("cosine", "online"), ("constant", "online")])
def test_the_policy_s_step_size_falls_in_no_other_case(schedule: str, phase: Phase) -> None:
    agent, batch = make(policy_schedule=schedule, policy_learning_rate=0.2), batch64()
    agent.set_phase(phase, 4)
    for _ in range(4):
        agent.update(batch)
        assert agent.optimizers["policy"].param_groups[0]["lr"].item() == 0.2


@pytest.mark.parametrize("balance", [FixedBalance(3.0), StateAdaptiveBalance(1.0, 5.0, hidden=(4,))])
def test_ddpg_bc_extraction(balance: FixedBalance | StateAdaptiveBalance) -> None:
    agent, b = make(balance=balance, extraction="ddpg-bc"), batch64()
    agent.policy.log_std.data.fill_(-0.4)
    a, beta = arrays(b), np.linspace(1, 5, 6)
    inputs = a["observations"]
    if isinstance(balance, StateAdaptiveBalance):
        inputs = np.concatenate([inputs, reference.embed(beta, 6)], -1)
    features = reference.mlp(agent.policy.trunk, inputs)
    mean = np.tanh(features @ reference.value_of(agent.policy.mean.weight) + reference.value_of(agent.policy.mean.bias))
    q = reference.q_values(agent.critic, a["observations"], mean).min(0)
    log_prob = reference.gaussian_log_prob(agent.policy, inputs, a["actions"])
    expected = 0.0
    for i in range(6):
        expected += 0.5 * ((mean[i] - a["actions"][i]) ** 2).sum() - beta[i] * q[i] / np.abs(q).mean() - log_prob[i]
    loss = agent.gradient_loss(b.observations, b.actions, torch.from_numpy(beta))
    assert loss.item() == pytest.approx(expected / 6, rel=1e-10)


def test_the_likelihood_moves_only_sigma_where_the_policy_climbs_q() -> None:
    agent, b = make(extraction="ddpg-bc", balance=FixedBalance(1e-9)), batch64()
    loss = agent.gradient_loss(b.observations, b.actions, torch.full((6,), 1e-9, dtype=torch.float64))
    mean, _ = agent.policy(b.observations)
    of_mean = torch.autograd.grad(loss, agent.policy.mean.bias, retain_graph=True)[0]
    squares = 0.5 * (mean - b.actions).square().sum(-1).mean()
    torch.testing.assert_close(of_mean, torch.autograd.grad(squares, agent.policy.mean.bias)[0], rtol=1e-6, atol=1e-9)
    of_std = torch.autograd.grad(loss, agent.policy.log_std)[0]
    likelihood = -agent.policy.log_prob(b.observations, b.actions).mean()
    torch.testing.assert_close(of_std, torch.autograd.grad(likelihood, agent.policy.log_std)[0])
