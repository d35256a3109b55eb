from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import AWAC, AWACConfig, FixedBalance, StateAdaptiveBalance
from tests.agents import reference
from tests.agents.test_td3bc import arrays, batch64

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> AWAC:
    agent = AWAC(OBSERVATIONS, ACTIONS, AWACConfig(hidden=(5, 4), **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def sampled(agent: AWAC, inputs: np.ndarray) -> np.ndarray:
    """The policy's actions with the noise that the agent draws from seed 3 on, clipped."""
    agent.stream.reseed(3)
    noise = agent.stream.normal(len(inputs), 2, dtype=torch.float64).numpy()
    agent.stream.reseed(3)
    features = reference.mlp(agent.policy.trunk, inputs)
    mean = np.tanh(features @ reference.value_of(agent.policy.mean.weight) + reference.value_of(agent.policy.mean.bias))
    return np.clip(mean + np.exp(reference.value_of(agent.policy.log_std)) * noise, -1, 1)


def test_critic_loss() -> None:
    agent, b = make(discount=0.9), batch64()
    a = arrays(b)
    following = reference.q_values(
        agent.target_critic, a["next_observations"], sampled(agent, a["next_observations"])
    ).min(0)
    target = a["rewards"] + np.where(a["terminated"], 0, 0.9 * following)
    q = reference.q_values(agent.critic, a["observations"], a["actions"])
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(((q - target) ** 2).mean(1).sum(), rel=1e-12)


def test_the_advantage_is_over_one_action_of_the_policy_under_the_online_critics() -> None:
    agent, b = make(), batch64()
    a = arrays(b)
    own = sampled(agent, a["observations"])
    expected = reference.q_values(agent.critic, a["observations"], a["actions"]).min(0) - reference.q_values(
        agent.critic, a["observations"], own
    ).min(0)
    found = agent.advantages(b.observations, b.actions, torch.ones(6, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("balance", [FixedBalance(3.0), StateAdaptiveBalance(1.0, 5.0, hidden=(4,))])
def test_policy_loss_with_per_sample_balance(balance: FixedBalance | StateAdaptiveBalance) -> None:
    agent, b = make(balance=balance), batch64()
    a, beta = arrays(b), np.linspace(1, 5, 6)
    advantages = np.array([-2.0, -0.1, 0.0, 0.3, 1.0, 4.0])  # 4 · 5 is clipped at weight 100
    inputs = a["observations"]
    if isinstance(balance, StateAdaptiveBalance):
        inputs = np.concatenate([inputs, reference.embed(beta, 6)], -1)
    log_prob = reference.gaussian_log_prob(agent.policy, inputs, a["actions"])
    weights = [min(math.exp(x * y), 100.0) for x, y in zip(beta, advantages, strict=True)]
    expected = -sum(w * lp for w, lp in zip(weights, log_prob, strict=True)) / 6
    loss = agent.policy_loss(b.observations, b.actions, torch.from_numpy(advantages), torch.from_numpy(beta))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_the_policy_follows_the_better_actions() -> None:
    """On a bandit whose reward is the action, the policy ends above the data's mean."""
    torch.manual_seed(0)
    agent = AWAC(
        gym.spaces.Box(-1, 1, (1,)),
        gym.spaces.Box(-1, 1, (1,)),
        AWACConfig(hidden=(32,), balance=FixedBalance(3.0), policy_learning_rate=3e-3, critic_learning_rate=3e-3),
    )
    for _ in range(400):
        b = batch64(64)
        actions = (b.actions[:, :1]).float()
        observations = torch.zeros(64, 1)
        agent.update(
            b._replace(
                observations=observations,
                next_observations=observations,
                actions=actions,
                rewards=actions[:, 0],
                terminated=torch.ones(64, dtype=torch.bool),
            )
        )
    assert agent.act(torch.zeros(1, 1), deterministic=True).item() > 0.3
