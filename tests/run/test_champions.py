"""Frozen policies act where they are dealt, and the best of them is served."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch

from balrl.agents import IQL, IQLConfig
from balrl.batch import Batch
from balrl.config import ChampionConfig
from balrl.errors import UserError
from balrl.rollout import Step
from balrl.run.champions import Champions
from balrl.run.tournament import LEARNER
from tests.conftest import random_batch

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))


def step(done: list[bool], returns: list[float], success: list[bool] | None = None) -> Step:
    n = len(done)
    return Step(
        random_batch(n),
        None,
        torch.tensor(done),
        torch.tensor(returns, dtype=torch.float64),
        torch.ones(n, dtype=torch.int64),
        None if success is None else torch.tensor(success),
        None,
    )


def make(worlds: int = 4, **config: object) -> tuple[IQL, Champions]:
    agent = IQL(*BOX, IQLConfig(hidden=(8,)))
    return agent, Champions(ChampionConfig(**config), agent, worlds, True)


def moved(agent: IQL) -> IQL:
    agent.update(Batch(*random_batch(16)))
    return agent


def test_every_world_has_its_own_player() -> None:
    agent, champions = make()
    observations = torch.randn(4, 3)
    frozen = agent.act(observations, deterministic=True)
    moved(agent)
    champions.tournament.playing = [LEARNER, 0, 0, LEARNER]
    champions._settle()
    position = agent.stream.position.clone()
    actions = champions.act(observations)
    agent.stream.position.copy_(position)
    explored = agent.explore(observations[[0, 3]])
    torch.testing.assert_close(actions[[1, 2]], frozen[[1, 2]])
    torch.testing.assert_close(actions[[0, 3]], explored)
    champions.tournament.playing = [0, 0, 0, 0]
    champions._settle()
    torch.testing.assert_close(champions.act(observations), frozen)


def test_a_crowned_challenger_is_served_and_the_old_champion_kept() -> None:
    agent, champions = make(worlds=1, min_episodes=2, every=1, window=2)
    observations = torch.randn(5, 3)
    first = agent.serve(observations)
    moved(agent)
    for _ in range(40):
        who = champions.tournament.playing[0]
        value = {LEARNER: 1.0, 0: 0.0}.get(who, 1.0)
        champions.saw(step([True], [value]))
    assert champions.tournament.changes
    assert not torch.equal(agent.serve(observations), first)
    torch.testing.assert_close(agent.serve(observations), agent.act(observations, deterministic=True))
    assert len(champions.policies) <= 1 + champions.config.challengers + 1


def test_what_is_saved_goes_on() -> None:
    agent, champions = make(worlds=3, min_episodes=2, every=1, window=2)
    for i in range(12):
        champions.saw(step([True, i % 2 == 0, False], [float(i), 0.0, 0.0]))
        moved(agent)
    other = Champions(champions.config, agent, 3, True)
    other.load(champions.tournament.state(), champions.tensors())
    assert other.tournament == champions.tournament
    observations = torch.randn(3, 3)
    position = agent.stream.position.clone()
    expected = champions.act(observations)
    agent.stream.position.copy_(position)
    assert torch.equal(other.act(observations), expected)


def test_success_counts_where_it_is_asked_for_and_reported() -> None:
    _, champions = make(worlds=1, by="success")
    champions.saw(step([True], [-100.0], [True]))
    assert champions.tournament.learner.episodes[-1][1] == 1.0
    with pytest.raises(UserError, match=r"champion\.by is success, the task reports none"):
        champions.saw(step([True], [1.0]))
