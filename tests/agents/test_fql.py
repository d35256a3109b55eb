from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import FQL, FixedBalance, FQLConfig, StateAdaptiveBalance
from balrl.batch import Batch
from balrl.flows import flow_matching_loss
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))
FAMILY = StateAdaptiveBalance(0.5, 4.0, hidden=(4,), entropy=False)


def make(**config: object) -> FQL:
    """A tiny agent in float64 whose target critics differ from what they follow."""
    agent = FQL(OBSERVATIONS, ACTIONS, FQLConfig(hidden=(5, 4), flow_steps=3, **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def batch64(rows: int = 6) -> Batch:
    return random_batch(rows, dtype=torch.float64)


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in batch._asdict().items() if value is not None}


def noise_of(agent: FQL, *shape: int) -> np.ndarray:
    """What the agent draws next from seed 3, to which it is set."""
    agent.stream.reseed(3)
    noise = agent.stream.normal(*shape, dtype=torch.float64).numpy()
    agent.stream.reseed(3)
    return noise


@pytest.mark.parametrize("target_q", ["mean", "minimum"])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_critic_loss(target_q: str, layer_norm: bool) -> None:
    agent, b = make(discount=0.9, target_q=target_q, layer_norm=layer_norm), batch64()
    a, z = arrays(b), noise_of(agent, 6, 2)
    actions = np.clip(reference.one_step(agent.policy, a["next_observations"], z), -1, 1)
    values = reference.flax_q_values(agent.target_critic, a["next_observations"], actions)
    following = values.mean(0) if target_q == "mean" else values.min(0)
    q = reference.flax_q_values(agent.critic, a["observations"], a["actions"])
    expected = 0.0
    for member in range(2):
        for i in range(6):
            target = a["rewards"][i] + (0.0 if a["terminated"][i] else 0.9 * following[i])
            expected += (target - q[member, i]) ** 2 / 6
    loss, _ = agent.critic_loss(b, agent.target(b))
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("normalize_q", [True, False])
@pytest.mark.parametrize("balance", [FixedBalance(0.1), FAMILY])
def test_policy_loss(balance: FixedBalance | StateAdaptiveBalance, normalize_q: bool) -> None:
    agent, b = make(balance=balance, normalize_q=normalize_q), batch64()
    a, w, z = arrays(b), np.linspace(0.5, 4, 6), noise_of(agent, 6, 2)
    observations = inputs = a["observations"]
    if isinstance(balance, StateAdaptiveBalance):
        inputs = np.concatenate([inputs, reference.embed(w, 6)], -1)
    chosen = reference.one_step(agent.policy, inputs, z)
    q = reference.flax_q_values(agent.critic, observations, np.clip(chosen, -1, 1)).mean(0)
    scale = np.abs(q).mean() if normalize_q else 1.0
    expected = distance = 0.0
    for i in range(6):
        x = z[i]
        for step in range(3):
            x = x + reference.velocity(agent.flow, observations[i], x, step / 3) / 3
        square = ((chosen[i] - np.clip(x, -1, 1)) ** 2).mean()
        distance += square / 6
        expected += (square - w[i] * q[i] / scale) / 6
    loss, found = agent.policy_loss(b.observations, torch.from_numpy(w))
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert found.item() == pytest.approx(distance, rel=1e-10)


def test_the_flow_is_a_teacher_and_learns_from_the_data_alone() -> None:
    agent, b = make(), batch64()
    loss, _ = agent.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    assert all(g is None for g in torch.autograd.grad(loss, list(agent.flow.parameters()), allow_unused=True))


def test_an_update_changes_everything_at_once() -> None:
    """Each loss sees the parameters as they were before the update, and so do the targets."""
    agent, b = make(polyak=0.1), batch64()
    old = copy.deepcopy(agent)
    agent.stream.reseed(5)
    agent.update(b)
    old.stream.reseed(5)
    target = old.target(b)
    flow_loss = flow_matching_loss(old.flow, b.observations, b.actions, old.stream).mean()
    policy_loss, _ = old.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    critic_loss, _ = old.critic_loss(b, target)
    for module, loss in (("flow", flow_loss), ("policy", policy_loss), ("critic", critic_loss)):
        expected = reference.first_adam_step(list(getattr(old, module).parameters()), loss, 3e-4)
        for new, wanted in zip(getattr(agent, module).parameters(), expected, strict=True):
            torch.testing.assert_close(new.detach(), wanted, rtol=1e-8, atol=1e-10)
    moved = zip(agent.target_critic.parameters(), old.target_critic.parameters(), old.critic.parameters(), strict=True)
    for new, before, critic in moved:
        torch.testing.assert_close(new, before + 0.1 * (critic.detach() - before), rtol=1e-12, atol=1e-12)


def test_a_member_of_the_family_acts_as_its_balance_says() -> None:
    agent = make(balance=FAMILY)
    observations = torch.randn(4, 3, dtype=torch.float64)
    low, high = (agent.act(observations, deterministic=True, balance=b) for b in (0.5, 4.0))
    assert not torch.equal(low, high)
    assert agent.improvement(observations, torch.full((4,), 2.0, dtype=torch.float64)).shape == (2, 4)


def test_an_action_is_a_sample_and_the_deterministic_one_that_of_latent_zero() -> None:
    agent = make()
    observations = torch.randn(1, 3, dtype=torch.float64).expand(50, 3)
    assert agent.act(observations).std(0).min() > 0
    mode = agent.act(observations, deterministic=True)
    expected = reference.one_step(agent.policy, observations.numpy(), np.zeros((50, 2)))
    np.testing.assert_allclose(mode.numpy(), np.clip(expected, -1, 1), rtol=1e-10)
