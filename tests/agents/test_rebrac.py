from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import ReBRAC, ReBRACConfig
from tests.agents import reference
from tests.agents.test_td3bc import actions_of, arrays, batch64, smoothed

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> ReBRAC:
    settings = {"hidden": (5, 4), "layer_norm": False, **config}
    agent = ReBRAC(OBSERVATIONS, ACTIONS, ReBRACConfig(**settings)).double()
    for module in (agent.target_critic, agent.target_policy):
        for p in module.parameters():
            p.data += 0.1 * torch.randn_like(p)
    return agent


def test_critics_pay_for_leaving_the_data_at_the_next_state() -> None:
    agent, b = make(critic_penalty=0.3, discount=0.9), batch64()
    a = arrays(b)
    actions = smoothed(agent, a["next_observations"])
    following = reference.q_values(agent.target_critic, a["next_observations"], actions).min(0)
    following = following - 0.3 * ((actions - a["next_actions"]) ** 2).sum(-1)
    target = a["rewards"] + np.where(a["terminated"], 0, 0.9 * following)
    q = reference.q_values(agent.critic, a["observations"], a["actions"])
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(((q - target) ** 2).mean(1).sum(), rel=1e-12)


def test_policy_loss() -> None:
    agent, b = make(policy_penalty=0.2), batch64()
    a, weight = arrays(b), np.linspace(0.4, 1.6, 6)
    chosen = actions_of(agent.policy, a["observations"])
    q = reference.q_values(agent.critic, a["observations"], chosen).min(0)
    scale, expected = np.abs(q).mean(), 0.0
    for i in range(6):
        expected += (0.2 * ((chosen[i] - a["actions"][i]) ** 2).sum() - weight[i] * q[i] / scale) / 6
    loss, _ = agent.policy_loss(b.observations, b.actions, torch.from_numpy(weight))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_it_asks_for_the_data_s_next_actions_and_says_so_where_they_lack() -> None:
    agent = make()
    assert agent.fields_in("offline") == agent.fields_in("online") == ("next_actions",)
    with pytest.raises(ValueError, match=r"needs Batch\.next_actions"):
        agent.update(batch64()._replace(next_actions=None))
