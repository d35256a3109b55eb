from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import IQL, IQLConfig, StateAdaptiveBalance
from balrl.config import FinetuneConfig, WarmupConfig
from balrl.run.member_bandit import DiscountedBandit, MemberBandit
from tests.run.test_champions import step

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(worlds: int = 1) -> tuple[IQL, MemberBandit]:
    agent = IQL(*BOX, IQLConfig(hidden=(8,), balance=StateAdaptiveBalance(1.0, 4.0, hidden=(8,))))
    return agent, MemberBandit(FinetuneConfig(), WarmupConfig(members=3), agent, worlds)


def test_the_best_arm_is_drawn_most_and_a_change_is_followed() -> None:
    rng, bandit, drawn = np.random.default_rng(0), DiscountedBandit(4), []
    for episode in range(1_200):
        arm = bandit.draw([])
        drawn.append(arm)
        best = 1 if episode < 600 else 3
        bandit.add(arm, float(arm == best) + 0.3 * rng.normal())
    assert np.mean(np.array(drawn[300:600]) == 1) > 0.4
    assert np.mean(np.array(drawn[900:]) == 3) > 0.4
    assert bandit.best() == 3


def test_worlds_side_by_side_do_not_all_draw_the_same() -> None:
    _, members = make(worlds=5)
    assert members.playing == [0, 1, 2, 3, 4]


def test_the_member_that_returns_most_lately_acts() -> None:
    agent, members = make()
    for _ in range(300):
        arm = members.playing[0]
        members.saw(step([True], [1.0 if members.arms[arm].balance == 4.0 else 0.0]))
    observations = torch.randn(5, 3)
    expected = agent.act(observations, deterministic=True, balance=4.0)
    torch.testing.assert_close(agent.act(observations, deterministic=True), expected)


def test_episodes_of_others_count_for_nothing() -> None:
    _, members = make(worlds=2)
    members.saw(step([True, True], [1.0, 1.0]), worlds={1})
    assert sum(members.bandit.counts) == 1


def test_it_goes_on_from_its_state() -> None:
    agent, members = make(worlds=2)
    for i in range(9):
        members.saw(step([True, i % 2 == 0], [float(i), -1.0]))
    state = json.loads(json.dumps(members.state()))
    other = MemberBandit(FinetuneConfig(), WarmupConfig(members=3), agent, 2)
    other.load(state)
    assert other.state() == members.state() == state
    assert other.bandit.draw([0]) == members.bandit.draw([0])
    assert make()[1].state()["range"] == []


def test_exploring_is_the_drawn_member_s() -> None:
    agent, members = make(worlds=4)
    agent.policy.log_std.data.fill_(-5.0)  # nearly its mode
    observations = torch.randn(4, 3)
    found = members.explore(observations)
    torch.testing.assert_close(
        found[2:3], agent.act(observations[2:3], deterministic=True, balance=1.0), atol=0.05, rtol=0
    )
    assert members.explore(observations[:2], torch.tensor([1, 3])).shape == (2, 2)
    assert members.arms[members.playing[2]].balance == pytest.approx(1.0)
