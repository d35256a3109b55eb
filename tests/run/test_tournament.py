"""Champion and challengers: who plays, who may enter, who is crowned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from balrl.config import ChampionConfig
from balrl.run.tournament import LEARNER, NOBODY, Contender, Tournament


def simulate(
    learner: float, champion: float, steps: int = 6_000, worlds: int = 1, seed: int = 0, stop: int | None = None
) -> tuple[Tournament, list[float]]:
    """Play episodes of 10 steps, normal values; a challenger is as good as the learner is. Return the served means."""
    rng = np.random.default_rng(seed)
    t = Tournament(ChampionConfig(every=200), worlds)
    t.begin(True)
    means, served, left = {0: champion}, [], rng.integers(5, 15, worlds).tolist()
    while t.taken < steps:
        left = [n - 1 for n in left]
        ended = {}
        for world in [w for w, n in enumerate(left) if n == 0]:
            who = t.playing[world]
            ended[world] = (means.get(who, learner) + rng.normal(), 10)
            left[world] = int(rng.integers(5, 15))
        t.advance(worlds, ended)
        if t.is_due:
            means[t.enter()] = learner
        served.append(means[t.champion.id])
        if stop is not None and t.taken >= stop:
            state, stop = json.loads(json.dumps(t.state())), None
            t = Tournament(t.config, worlds)
            t.load(state)
    return t, served


def test_a_learner_that_is_better_is_crowned() -> None:
    assert sum(simulate(2.0, 0.0, seed=seed)[1][-1] == 2.0 for seed in range(10)) >= 9


def test_a_learner_that_is_worse_never_acts_for_the_user() -> None:
    """One run in five may err by the stated confidence; these are far apart."""
    assert all(min(simulate(-1.0, 0.0, seed=seed)[1]) == 0.0 for seed in range(20))


def test_equal_policies_seldom_change_the_champion() -> None:
    assert sum(bool(simulate(0.0, 0.0, seed=seed)[0].changes) for seed in range(20)) <= 6


@pytest.mark.parametrize("worlds", [1, 7])
def test_shares_of_the_steps(worlds: int) -> None:
    shares = simulate(-1.0, 0.0, steps=8_000, worlds=worlds)[0].report()["shares"]
    assert shares["learner"] == pytest.approx(0.5, abs=0.05)
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("stop", [3, 500, 2_400])
def test_stopping_anywhere_changes_nothing(stop: int) -> None:
    whole, stopped = (simulate(1.0, 0.0, steps=3_000, worlds=3, stop=s)[0] for s in (None, stop))
    assert whole == stopped


def test_episodes_that_began_before_it_are_nobody_s() -> None:
    t = Tournament(ChampionConfig(), 2)
    t.begin(False)
    assert t.playing == [NOBODY, NOBODY]
    t.advance(2, {0: (5.0, 3)})
    assert t.playing[1] == NOBODY
    assert t.playing[0] != NOBODY
    assert not t.learner.episodes
    assert not t.champion.episodes


def test_the_confidence_is_shared_by_all_comparisons() -> None:
    t = Tournament(ChampionConfig(confidence=0.8), 1)
    t.looks = 1
    assert t.threshold == pytest.approx(0.8)
    t.looks = 2
    assert t.threshold == pytest.approx(0.9)


def test_a_challenger_makes_room_and_the_old_champion_stays() -> None:
    t = Tournament(ChampionConfig(min_episodes=2, challengers=1), 1)
    t.begin(True)
    t.champion.dealt, t.champion.episodes = 3, [(0, 0.0), (1, 0.1), (2, 0.2)]
    number = t.enter()
    t.challengers[0].dealt, t.challengers[0].episodes = 2, [(0, 9.0), (1, 9.1)]
    t.advance(1, {0: (9.0, 1)})
    assert t.champion.id == number
    assert [c.id for c in t.challengers] == [0]
    assert t.changes[0]["born"] == 0
    assert set(t.frozen) >= {0, number}


def test_one_that_is_clearly_worse_is_dropped() -> None:
    t = Tournament(ChampionConfig(min_episodes=2), 1)
    t.begin(True)
    t.champion.dealt, t.champion.episodes = 3, [(0, 5.0), (1, 5.1), (2, 5.2)]
    t.challengers = [Contender(1, 0, 0, 2, [(0, 0.0), (1, 0.1)]), Contender(2, 0)]
    t.advance(1, {0: None})
    assert [c.id for c in t.challengers] == [2]


def test_the_learner_plays_first() -> None:
    t = Tournament(ChampionConfig(), 4)
    t.begin(True)
    assert t.playing.count(LEARNER) == 2


def test_an_episode_counts_when_those_dealt_before_it_have_ended() -> None:
    t = Tournament(ChampionConfig(), 3)
    t.begin(True)
    t.playing, t.numbers, t.champion.dealt = [0, 0, 0], [0, 1, 2], 3
    t.advance(3, {1: (7.0, 5)})  # the second: the first may yet be long and bad
    assert t.values(t.champion) == []
    t.advance(3, {0: (1.0, 40)})
    assert t.values(t.champion)[:2] == [1.0, 7.0]
