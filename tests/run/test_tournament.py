"""Champion and challengers: who plays, who may enter, who is crowned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from balrl.config import ChampionConfig
from balrl.run.tournament import BLOCK, LEARNER, NOBODY, REMEMBERED, Contender, Episode, Tournament


def simulate(
    learner: float, champion: float, steps: int = 3_000, worlds: int = 1, seed: int = 0, stop: int | None = None
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
        if ended and t.is_due:
            means[t.enter()] = learner
        served.append(means[t.champion.id])
        if stop is not None and t.taken >= stop:
            state, stop = json.loads(json.dumps(t.state())), None
            t = Tournament(t.config, worlds)
            t.load(state)
    return t, served


def played(*values: float, first: int = 0, at: int = 0) -> list[Episode]:
    """Return episodes that were dealt one after another."""
    return [Episode(first + number, value, at) for number, value in enumerate(values)]


def test_a_learner_that_is_better_is_crowned() -> None:
    assert all(simulate(2.0, 0.0, steps=1_000, seed=seed)[1][-1] == 2.0 for seed in range(8))


def test_a_learner_that_is_worse_hardly_ever_acts_for_the_user() -> None:
    """An error of the first few episodes (seed 7) is found out by the next ones."""
    served = np.array([simulate(-1.0, 0.0, seed=seed)[1] for seed in range(4, 10)])
    assert (served < 0).mean() < 0.02
    assert (served[:, -1] == 0).all()


def test_equal_policies_change_the_champion_now_and_then() -> None:
    assert np.mean([len(simulate(0.0, 0.0, seed=seed)[0].changes) for seed in range(6)]) <= 2


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


def test_a_challenger_makes_room_and_the_old_champion_stays() -> None:
    t = Tournament(ChampionConfig(min_episodes=2, challengers=1), 1)
    t.begin(True)
    t.champion.dealt, t.champion.episodes = 3, played(0.0, 0.1, 0.2)
    number = t.enter()
    t.challengers[0].dealt, t.challengers[0].episodes = 3, played(9.0, 9.1, 9.2)
    t.advance(1, {0: (9.0, 1)})
    assert t.champion.id == number
    assert [c.id for c in t.challengers] == [0]
    assert t.changes[0]["born"] == 0
    assert set(t.frozen) >= {0, number}


def test_one_that_is_clearly_worse_is_dropped() -> None:
    t = Tournament(ChampionConfig(min_episodes=2), 1)
    t.begin(True)
    t.champion.dealt, t.champion.episodes = 3, played(5.0, 5.1, 5.2)
    t.challengers = [Contender(1, 0, 3, 3, played(0.0, 0.1, 0.2)), Contender(2, 0)]
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


def of_learner(mean: float, champion: float, own: list[float]) -> Tournament:
    """Return a tournament after 1,000 steps: ten episodes of the champion, twenty of the learner, own ones."""
    t = Tournament(ChampionConfig(), 1)
    t.begin(False)
    t.taken, t.longest = 1_000, 10
    noise = np.random.default_rng(0).normal(size=30).tolist()
    t.champion.dealt, t.champion.episodes = 10, played(*(champion + x for x in noise[:10]))
    t.learner.dealt = 20
    t.learner.episodes = [Episode(n, mean + x, 500 + 25 * n) for n, x in enumerate(noise[10:])]
    t.challengers = [Contender(1, 900, len(own), len(own), played(*own))]
    return t


def test_the_learner_s_episodes_speak_for_its_snapshot() -> None:
    """Five episodes of a snapshot say the same; what the learner did around the time when it was frozen decides."""
    own = [1.5, -0.5, 1.5, 0.0, 0.5]
    for learner, crowned in ((3.0, True), (-1.0, False)):
        t = of_learner(learner, 0.0, own)
        t.advance(1, {0: None})
        assert bool(t.changes) == crowned, learner


def test_nobody_is_crowned_without_episodes_of_its_own() -> None:
    t = of_learner(5.0, 0.0, [9.0, 9.0])
    t.advance(1, {0: None})
    assert not t.changes


def test_the_learner_s_present_policy_enters_when_it_is_probably_as_good() -> None:
    assert of_learner(1.0, 0.0, []).is_due
    assert not of_learner(-3.0, 0.0, []).is_due
    early = of_learner(1.0, 0.0, [])
    early.learner.episodes = early.learner.episodes[-BLOCK + 1 :]
    assert not early.is_due


def test_a_dip_right_after_the_switch_says_nothing_of_the_first_champion() -> None:
    """With a place at time 0 it would be thought to be as bad as the learner's first episodes."""
    t = of_learner(-5.0, 0.0, [])
    t.learner.episodes = [episode._replace(at=10 * n) for n, episode in enumerate(t.learner.episodes)]
    pooled, _ = t._pooled()
    assert abs(pooled.mean[0] - np.mean(t.values(t.champion))) < 0.5


def test_long_runs_remember_the_last_episodes_only() -> None:
    t = Tournament(ChampionConfig(learner_share=0.01), 2)
    t.begin(True)
    for n in range(3 * REMEMBERED):
        t.advance(2, {n % 2: (float(n), 1)})
    assert len(t.champion.episodes) == REMEMBERED + 4
    assert t.champion.played > 2 * REMEMBERED
    assert t.values(t.champion)[-1] > t.values(t.champion)[0] > 0
