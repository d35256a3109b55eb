"""Members of the family play the warm-up, and the one whose episodes return most acts from then on."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch

from balrl.agents import IQL, IQLConfig, StateAdaptiveBalance
from balrl.config import WarmupConfig
from balrl.run.selection import Selection, ended_episodes
from tests.conftest import random_batch
from tests.run.test_champions import step

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(worlds: int = 1, steps: int = 400, **config: object) -> tuple[IQL, Selection]:
    agent = IQL(*BOX, IQLConfig(hidden=(8,), balance=StateAdaptiveBalance(1.0, 4.0, hidden=(8,))))
    settings = {"select": "halving", "members": 3, "steps": steps, **config}
    return agent, Selection(WarmupConfig(**settings), agent, worlds, random_batch(8))


def play(selection: Selection, steps: int, worth: dict[int, float]) -> None:
    for _ in range(steps):
        arms = [arm for arm, _ in selection.halving.playing]
        selection.saw(step([True] * len(arms), [worth.get(arm, 0.0) for arm in arms]))


def test_the_best_member_acts_from_then_on() -> None:
    agent, selection = make()
    observations = torch.randn(5, 3)
    play(selection, 400, {2: 1.0})  # the middle one of three constants over [1, 4]: 2
    found = selection.conclude()
    assert found["winner"] == 2
    assert found["arms"][2]["balance"] == pytest.approx(2.0)
    assert found["arms"][2]["mean"] == 1.0
    assert found["arms"][2]["low"] == found["arms"][2]["high"] == 1.0
    assert {"mean_q", "conservative_q"} <= found["arms"][2].keys()
    expected = agent.act(observations, deterministic=True, balance=2.0)
    torch.testing.assert_close(agent.act(observations, deterministic=True), expected)


def test_equal_members_leave_the_model_s_own_choice() -> None:
    agent, selection = make()
    observations = torch.randn(5, 3)
    before = agent.act(observations, deterministic=True)
    play(selection, 400, {})
    assert selection.conclude()["winner"] == 0
    assert torch.equal(agent.act(observations, deterministic=True), before)


def test_every_world_is_played_by_the_member_that_it_was_dealt() -> None:
    agent, selection = make(worlds=4, arms_act="mode")
    observations = torch.randn(4, 3)
    assert [arm for arm, _ in selection.halving.playing] == [0, 1, 2, 3]
    found = selection.act(observations)
    for row, balance in enumerate((None, 1.0, 2.0, 4.0)):
        expected = agent.act(observations[row : row + 1], deterministic=True, balance=balance)
        torch.testing.assert_close(found[row : row + 1], expected)


def test_members_explore_where_nothing_else_is_asked_for() -> None:
    agent, selection = make(worlds=4)
    observations = torch.randn(4, 3)
    assert not torch.equal(selection.act(observations), selection.act(observations))
    agent.policy.log_std.data.fill_(-5.0)
    near = agent.act(observations[3:], deterministic=True, balance=4.0)
    torch.testing.assert_close(selection.act(observations)[3:], near, atol=0.06, rtol=0)


def test_it_goes_on_from_its_state() -> None:
    agent, selection = make(worlds=2)
    play(selection, 30, {1: 1.0})
    other = Selection(selection.config, agent, 2, None, selection.state())
    for one in (selection, other):
        play(one, 60, {1: 1.0})
    assert other.halving == selection.halving
    assert other.conclude() == selection.conclude()


def test_what_became_of_the_episodes() -> None:
    given = step([True, False, True], [3.0, 4.0, 5.0])._replace(valid=torch.tensor([True, True, False]))
    assert ended_episodes(given, "return", "warmup.select_by") == (2, {0: (3.0, 1), 2: None})
