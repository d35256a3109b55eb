from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agents import TD3BC, FixedBalance, StateAdaptiveBalance, TD3BCConfig
from balrl.batch import Batch
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))
FAMILY = StateAdaptiveBalance(0.5, 4.0, hidden=(4,), entropy=False)


def make(**config: object) -> TD3BC:
    """A tiny agent in float64 whose targets differ from what they follow."""
    agent = TD3BC(OBSERVATIONS, ACTIONS, TD3BCConfig(hidden=(5, 4), **config)).double()
    for module in (agent.target_critic, agent.target_policy):
        for p in module.parameters():
            p.data += 0.1 * torch.randn_like(p)
    return agent


def batch64(rows: int = 6) -> Batch:
    return random_batch(rows, dtype=torch.float64)


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in batch._asdict().items() if value is not None}


def actions_of(policy: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    features = reference.mlp(policy.trunk, inputs)
    return np.tanh(features @ reference.value_of(policy.mean.weight) + reference.value_of(policy.mean.bias))


def smoothed(agent: TD3BC, observations: np.ndarray) -> np.ndarray:
    """The target policy's actions with the noise that the agent draws from seed 3 on."""
    agent.stream.reseed(3)
    noise = agent.config.target_noise * agent.stream.normal(len(observations), 2, dtype=torch.float64).numpy()
    agent.stream.reseed(3)
    return np.clip(actions_of(agent.target_policy, observations) + np.clip(noise, -0.5, 0.5), -1, 1)


def test_critic_loss_with_target_policy_smoothing() -> None:
    agent, b = make(discount=0.9, target_noise=0.6), batch64()
    a = arrays(b)
    following = reference.q_values(
        agent.target_critic, a["next_observations"], smoothed(agent, a["next_observations"])
    ).min(0)
    q = reference.q_values(agent.critic, a["observations"], a["actions"])
    expected = 0.0
    for member in range(2):
        for i in range(6):
            target = a["rewards"][i] + (0.0 if a["terminated"][i] else 0.9 * following[i])
            expected += (target - q[member, i]) ** 2 / 6
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("balance", [FixedBalance(2.5), FAMILY])
def test_policy_loss(balance: FixedBalance | StateAdaptiveBalance) -> None:
    agent, b = make(balance=balance), batch64()
    a, alpha = arrays(b), np.linspace(0.5, 4, 6)
    inputs = a["observations"]
    if isinstance(balance, StateAdaptiveBalance):
        inputs = np.concatenate([inputs, reference.embed(alpha, 6)], -1)
    chosen = actions_of(agent.policy, inputs)
    q = reference.q_values(agent.critic, a["observations"], chosen)[0]
    scale, expected = np.abs(q).mean(), 0.0
    for i in range(6):
        expected += (-alpha[i] * q[i] / scale + ((chosen[i] - a["actions"][i]) ** 2).mean()) / 6
    loss, error = agent.policy_loss(b.observations, b.actions, torch.from_numpy(alpha))
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert error.item() == pytest.approx(((chosen - a["actions"]) ** 2).mean(), rel=1e-12)


def test_policy_and_targets_move_with_every_second_update_only() -> None:
    agent, b = make(polyak=0.1), batch64()
    moving = ("policy", "target_policy", "target_critic")

    def state() -> dict[str, list[Tensor]]:
        return {name: [p.detach().clone() for p in getattr(agent, name).parameters()] for name in (*moving, "critic")}

    before = state()
    agent.update(b)
    after = state()
    assert all(torch.equal(x, y) for name in moving for x, y in zip(before[name], after[name], strict=True))
    assert not torch.equal(before["critic"][0], after["critic"][0])
    agent.update(b)
    last = state()
    assert not any(torch.equal(x, y) for name in moving for x, y in zip(after[name], last[name], strict=True))
    for target, old, new in zip(last["target_critic"], after["target_critic"], last["critic"], strict=True):
        torch.testing.assert_close(target, old + 0.1 * (new - old), rtol=1e-12, atol=1e-12)


def test_one_policy_step_sees_the_new_critics() -> None:
    agent, b = make(policy_every=1), batch64()
    old = copy.deepcopy(agent)
    agent.update(b)
    loss, _ = TD3BC.policy_loss(
        _with(old, critic=agent.critic), b.observations, b.actions, torch.full((6,), 2.5, dtype=torch.float64)
    )
    expected = reference.first_adam_step(list(old.policy.parameters()), loss, 3e-4)
    for new, wanted in zip(agent.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(new.detach(), wanted, rtol=1e-8, atol=1e-10)


def _with(agent: TD3BC, **modules: torch.nn.Module) -> TD3BC:
    for name, module in modules.items():
        setattr(agent, name, module)
    return agent


def test_a_degenerate_family_is_td3bc() -> None:
    """minimum == maximum, embedding inputs weighted by zero: the losses are the fixed balance's."""
    fixed, b = make(balance=FixedBalance(2.5)), batch64()
    family = make(balance=StateAdaptiveBalance(2.5, 2.5, hidden=(4,)))
    for name in ("critic", "target_critic"):
        getattr(family, name).load_state_dict(getattr(fixed, name).state_dict())
    for name in ("policy", "target_policy"):
        own, theirs = getattr(family, name), getattr(fixed, name)
        with torch.no_grad():
            for (key, p), q in zip(own.named_parameters(), theirs.parameters(), strict=True):
                p.zero_()
                p[tuple(slice(n) for n in q.shape)] = q
                assert "layers.0.weight" in key or p.shape == q.shape
    alpha = torch.full((6,), 2.5, dtype=torch.float64)
    for agent in (fixed, family):
        agent.stream.reseed(1)
    torch.testing.assert_close(
        fixed.policy_loss(b.observations, b.actions, alpha)[0],
        family.policy_loss(b.observations, b.actions, alpha)[0],
        rtol=1e-12,
        atol=0,
    )
    family.balance.sample(b.observations, False, family.stream)
    family.stream.reseed(1)
    family.stream.uniform(6, dtype=torch.float64)  # what the balance of the next states was drawn from
    noise = family.stream.normal(6, 2, dtype=torch.float64)
    for agent in (fixed, family):
        agent.stream.normal = lambda *shape, **_: noise  # type: ignore[method-assign]
    torch.testing.assert_close(fixed.critic_loss(b)[0], family.critic_loss(b)[0], rtol=1e-12, atol=0)


def test_exploration_adds_noise_inside_the_bounds() -> None:
    agent = make(exploration_noise=0.4)
    observations = torch.randn(2000, 3, dtype=torch.float64)
    mode, explored = agent.act(observations, deterministic=True), agent.explore(observations)
    inside = explored.abs() < 1
    assert (explored - mode)[inside].std().item() == pytest.approx(0.4, rel=0.15)
    assert explored.abs().max() == 1


def test_critics_alone_move_their_targets() -> None:
    agent, b = make(polyak=0.1), batch64()
    before = [p.detach().clone() for p in agent.target_critic.parameters()]
    policies = [p.detach().clone() for p in (*agent.policy.parameters(), *agent.target_policy.parameters())]
    agent.update_critic(b)
    for target, old, new in zip(agent.target_critic.parameters(), before, agent.critic.parameters(), strict=True):
        torch.testing.assert_close(target, old + 0.1 * (new - old), rtol=1e-12, atol=1e-12)
    after = (*agent.policy.parameters(), *agent.target_policy.parameters())
    assert all(torch.equal(x, y) for x, y in zip(policies, after, strict=True))
