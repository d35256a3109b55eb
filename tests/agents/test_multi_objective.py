"""What agents for several rewards share."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import MOIQL, MOSAC, MOTD3BC, Agent, MOIQLConfig, MOSACConfig, MOTD3BCConfig, SACConfig
from balrl.agents.sac import SAC
from balrl.batch import Batch
from balrl.errors import UserError
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))
KINDS = {"mo-sac": (MOSAC, MOSACConfig), "mo-td3bc": (MOTD3BC, MOTD3BCConfig), "mo-iql": (MOIQL, MOIQLConfig)}


def make(name: str = "mo-sac", **config: object) -> Agent:
    kind, of = KINDS[name]
    return kind(OBSERVATIONS, ACTIONS, of(**{"hidden": (5, 4), **config}))


def test_every_row_gets_a_preference_the_same_behind_it() -> None:
    agent, batch = make(objectives=3), random_batch(64, reward_dim=3)
    made = agent.preferring(batch)
    w = made.observations[:, 3:]
    assert torch.equal(w, made.next_observations[:, 3:])
    torch.testing.assert_close(w.sum(-1), torch.ones(64))
    assert len(w.unique(dim=0)) == 64
    assert torch.equal(made.observations[:, :3], batch.observations)
    assert agent.preferring(made) is made


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.4, 800), (1.0, 2000)])
def test_a_share_of_logged_rows_gets_its_episode_s_preference(share: float, expected: int) -> None:
    agent = make("mo-iql", behaviour_share=share)
    assert agent.fields_in("offline") == (("preferences",) if share else ())
    assert agent.fields_in("online") == ()
    own = torch.tensor([0.125, 0.875]).expand(2000, 2)
    w = agent.preferring(random_batch(2000, reward_dim=2)._replace(preferences=own)).observations[:, 3:]
    assert (w == own).all(-1).sum().item() == pytest.approx(expected, abs=70 * (0 < share < 1))


@pytest.mark.parametrize("name", KINDS)
def test_a_preference_can_be_asked_for_and_said_for_good(name: str) -> None:
    agent, observation = make(name), np.ones((4, 3), np.float32)
    with torch.no_grad():
        for p in agent.policy.parameters():
            p += 0.3 * torch.randn_like(p)
    one, other, default = (
        agent.predict(observation, deterministic=True, preference=w)[0] for w in ([1, 0], [0, 3], None)
    )
    assert not np.allclose(one, other)
    np.testing.assert_allclose(default, agent.predict(observation, deterministic=True, preference=[2, 2])[0])
    rows = agent.predict(observation, deterministic=True, preference=[[1, 0], [0, 1], [1, 0], [0, 1]])[0]
    np.testing.assert_allclose(rows, np.stack([one[0], other[0], one[0], other[0]]), rtol=1e-5)
    agent.prefer([0.0, 1.0])
    np.testing.assert_allclose(agent.predict(observation, deterministic=True)[0], other, rtol=1e-6)
    frozen = agent.freeze()
    np.testing.assert_allclose(frozen.act(torch.ones(4, 3), True).numpy(), other, rtol=1e-6)
    with pytest.raises(UserError, match="expected"):
        agent.predict(observation, preference=[1, 2, 3])


def test_an_agent_for_one_reward_has_no_preference_to_ask_for() -> None:
    agent = SAC(OBSERVATIONS, ACTIONS, SACConfig(hidden=(4,)))
    with pytest.raises(UserError, match="learned from one reward"):
        agent.predict(np.ones(3, np.float32), preference=[0.5, 0.5])


@pytest.mark.parametrize("utopia", [None, (10.0, 20.0)])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_watched_is_a_utility(name: str, utopia: tuple[float, ...] | None) -> None:
    """Of the whole target, once: Chebyshev's is not the sum of its parts' utilities."""
    agent, batch = make(name, utopia=utopia), random_batch(6, reward_dim=2)
    q, target = agent.q_values(batch.observations, batch.actions), agent.td_target(batch)
    assert q.shape == (2, 6)
    seen = agent.normalizer(batch.next_observations), agent.act(batch.next_observations, deterministic=True)
    vectors, utilities = agent.target_critic.vectors(*seen), agent.target_critic(*seen)
    least = vectors[utilities.argmin(0), torch.arange(6)]
    y = batch.rewards + 0.99 * least * ~batch.terminated[:, None]
    expected = y.mean(-1) if utopia is None else (0.5 * (y - torch.tensor(utopia))).amin(-1)
    torch.testing.assert_close(target, expected)


def test_the_utopian_point_is_the_configuration_s_and_rewards_are_one_per_objective() -> None:
    agent = make("mo-sac", utopia=(1.0, 2.0))
    assert not [key for key in agent.state_dict() if "utopia" in key]  # a warm start takes over weights, no utility
    with pytest.raises(ValueError, match=r"rewards have shape \(6,\), expected \(6, 2\)"):
        agent.update(random_batch(6))


@pytest.mark.parametrize("name", KINDS)
def test_two_equal_rewards_are_one(name: str) -> None:
    """With r₁ = r₂ every preference means the same: all utilities are wᵀ(r, r) = r, whatever w."""
    torch.manual_seed(0)
    agent = make(name, discount=0.0, hidden=(32,))
    rates = [group for o in agent.optimizers.values() for group in o.param_groups]
    for group in rates:
        group["lr"] = torch.full_like(group["lr"], 3e-3) if torch.is_tensor(group["lr"]) else 3e-3
    observations = torch.rand(256, 3)
    rewards = observations[:, :1].repeat(1, 2)
    ended = torch.ones(256, dtype=torch.bool)
    actions = 2 * torch.rand(256, 2) - 1
    for _ in range(500):
        agent.update(Batch(observations, actions, rewards, observations, ended))
    ends = []
    for w in ([0.9, 0.1], [0.1, 0.9]):
        seen = torch.cat([observations, torch.tensor(w).expand(256, 2)], -1)
        ends.append(agent.q_values(seen, actions).mean(0))
    assert (ends[0] - rewards[:, 0]).abs().mean() < 0.08
    assert (ends[0] - ends[1]).abs().mean() < 0.08


def test_copies_share_nothing_with_the_original() -> None:
    agent = make()
    other = copy.deepcopy(agent)
    other.prefer([1.0, 0.0])
    assert agent.normalizer.preference.tolist() == [0.5, 0.5]
