"""Champion and challengers: whose policy plays which episode, and when another one has earned the crown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from balrl.config import ChampionConfig
from balrl.run.pooling import Place, Pooled, pool

LEARNER, NOBODY = -1, -2
"""Who plays beside the frozen policies: the learner, and whoever began an episode before the tournament did."""
KINDS = ("learner", "champion", "challengers")
BLOCK = 5
"""Successive episodes of the learner that are looked at as one policy's."""
REMEMBERED = 1000
"""Last episodes of a frozen policy that count."""


class Episode(NamedTuple):
    """What a contender has played: its how-manieth that is, its value, environment steps when it was dealt."""

    number: int
    value: float
    at: int


@dataclass
class Contender:
    """A frozen policy.

    Attributes:
        id: never given twice; the first champion is 0.
        born: environment steps of fine-tuning when it was frozen.
        dealt: episodes that it was given.
        played: episodes that it has finished.
        episodes: the last of them.
    """

    id: int
    born: int
    dealt: int = 0
    played: int = 0
    episodes: list[Episode] = field(default_factory=list)


@dataclass
class Tournament:
    """Deals episodes to a champion, to challengers and to the learner, and names the champion.

    - The learner plays its share of the environment steps. Of the frozen policies the one with the fewest episodes
      plays, the champion counting double; without a challenger all the rest is the champion's.
    - Episodes count in the order in which they were dealt: none before those that were dealt earlier to the same player
      have ended. Nobody is favoured because bad episodes are short, or good ones.
    - Policies of one run are judged together: a Gaussian process over the time at which they were frozen, in which the
      learner's last episodes take part in blocks (`pool`). A policy frozen while the learner does well needs few
      episodes of its own; the policy of the switch is like no other, for the learner may fall right after it.
    - The learner's present policy becomes a challenger when it is as probable as not to be above the champion, some
      time has passed since the last, and there is a place; of those that have played enough the least probable makes
      room.
    - A challenger with `min_episodes` becomes champion when the probability that its mean is above the champion's
      reaches the confidence; the old champion stays as a challenger. One that has become as improbable is dropped.

    Attributes:
        config: shares, places and confidence.
        worlds: side by side.
    """

    config: ChampionConfig
    worlds: int
    champion: Contender = field(default_factory=lambda: Contender(0, 0))
    challengers: list[Contender] = field(default_factory=list)
    learner: Contender = field(default_factory=lambda: Contender(LEARNER, 0))
    playing: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    taken: int = 0
    longest: int = 0
    entered: int = 0
    last_entry: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, fresh: bool) -> None:
        """Deal the first episodes, or, where worlds are in the middle of one, wait for their ends."""
        self.playing, self.numbers, self.begun = [NOBODY] * self.worlds, [0] * self.worlds, [0] * self.worlds
        if fresh:
            for world in range(self.worlds):
                self._deal(world)

    def advance(self, made: int, ended: Mapping[int, tuple[float, int] | None]) -> None:
        """Take note of a vector step, name the champion, and deal the next episodes.

        Args:
            made: environment steps that it was.
            ended: worlds whose episode ended with it, with the episode's value and length; None where it came to
                nothing.
        """
        self.taken += made
        for who in self.playing:
            self.steps[self._kind(who)] += made / self.worlds
        for world, found in ended.items():
            if found is not None:
                self._note(self.playing[world], Episode(self.numbers[world], float(found[0]), self.begun[world]))
                self.longest = max(self.longest, int(found[1]))
            self.playing[world] = NOBODY
        if ended:
            self._judge()
        for world in ended:
            self._deal(world)

    @property
    def is_due(self) -> bool:
        """Whether the learner's present policy is to become a challenger; can change where an episode has ended."""
        enough = min(BLOCK, self.config.window)
        if self.taken - self.last_entry < self.config.every or len(self._last_of_learner()) < enough:
            return False
        has_place = len(self.challengers) < self.config.challengers or bool(self._tried())
        if not has_place or len(self.values(self.champion)) < self.config.min_episodes:
            return False
        pooled, now = self._pooled()
        return pooled.probability_above(now, 0) >= 0.5

    def enter(self) -> int:
        """Take the learner's present policy in as a challenger, and return its number."""
        if len(self.challengers) >= self.config.challengers:
            pooled, _ = self._pooled()
            probable = {c.id: pooled.probability_above(1 + i, 0) for i, c in enumerate(self.challengers)}
            self.challengers.remove(min(self._tried(), key=lambda c: probable[c.id]))
        self.entered += 1
        self.last_entry = self.taken
        self.challengers.append(Contender(self.entered, self.taken))
        return self.entered

    @property
    def frozen(self) -> list[int]:
        """The numbers of the policies that may be asked to play."""
        return [self.champion.id, *(c.id for c in self.challengers), *(who for who in self.playing if who >= 0)]

    def values(self, contender: Contender) -> list[float]:
        """Return the values of a contender's own episodes that count, in the order in which they were dealt."""
        return [episode.value for episode in self._counted(contender)]

    def report(self) -> dict[str, Any]:
        """Return who is champion since when, every change, and who has played how much, as plain JSON types."""
        values, total = self.values(self.champion), sum(self.steps.values()) or 1.0
        return {
            "born": self.champion.born,
            "episodes": len(values),
            "mean": float(np.mean(values)) if values else None,
            "changes": self.changes,
            "challengers": self.entered,
            "shares": {kind: round(self.steps[kind] / total, 3) for kind in KINDS},
        }

    def state(self) -> dict[str, Any]:
        """Return everything but the configuration, as plain JSON types."""
        return {key: value for key, value in asdict(self).items() if key not in ("config", "worlds")}

    def load(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        for key, value in state.items():
            setattr(self, key, value)
        self.learner, self.champion, *self.challengers = (
            Contender(**{**one, "episodes": [Episode(*episode) for episode in one["episodes"]]})
            for one in (state["learner"], state["champion"], *state["challengers"])
        )

    def _note(self, who: int, episode: Episode) -> None:
        for contender in (self.learner, self.champion, *self.challengers):
            if contender.id == who:
                kept = self.config.window if contender is self.learner else REMEMBERED
                contender.played += 1  # some that were dealt earlier have yet to end
                contender.episodes = [*contender.episodes, episode][-kept - 2 * self.worlds :]

    def _judge(self) -> None:
        own, tried = self.values(self.champion), self._tried()
        if len(own) < self.config.min_episodes or not tried:
            return
        pooled, _ = self._pooled()
        of = {
            c.id: (pooled.probability_above(1 + i, 0), float(pooled.mean[1 + i]))
            for i, c in enumerate(self.challengers)
        }
        best = max((c for c in tried if of[c.id][0] >= self.config.confidence), key=lambda c: of[c.id][1], default=None)
        lost = [c.id for c in tried if of[c.id][0] < 1 - self.config.confidence]
        self.challengers = [c for c in self.challengers if c.id not in lost]
        if best is None:
            return
        values = self.values(best)
        self.changes.append(
            {
                "step": self.taken,
                "born": best.born,
                "probability": round(of[best.id][0], 5),
                "mean": float(np.mean(values)),
                "over": float(np.mean(own)),
                "episodes": [len(values), len(own)],
            }
        )
        self.challengers = [*(c for c in self.challengers if c is not best), self.champion]
        self.champion = best

    def _pooled(self) -> tuple[Pooled, int]:
        """Return what all episodes say about champion, challengers and learner, and the learner's number in it."""
        span = max(1, self.taken)
        frozen = [self.champion, *self.challengers]
        values = [self.values(one) for one in frozen]
        places = [Place(one.born / span if one.born else None, False) for one in frozen]
        last = self._last_of_learner()
        for end in range(len(last), 0, -BLOCK):
            block = last[max(0, end - BLOCK) : end]
            values.append([episode.value for episode in block])
            places.append(Place(float(np.mean([episode.at for episode in block])) / span, False))
        pooled = pool([*values, []], [*places, Place(1.0, False)])
        assert pooled is not None  # is asked once the champion has played
        return pooled, len(values)

    def _last_of_learner(self) -> list[Episode]:
        return self._counted(self.learner)[-self.config.window :]

    def _counted(self, contender: Contender) -> list[Episode]:
        """Return a contender's episodes up to the first that is still being played."""
        running = [n for n, who in zip(self.numbers, self.playing, strict=True) if who == contender.id]
        first = min(running, default=contender.dealt)
        return [episode for episode in sorted(contender.episodes) if episode.number < first]

    def _tried(self) -> list[Contender]:
        return [c for c in self.challengers if len(self.values(c)) >= self.config.min_episodes]

    def _deal(self, world: int) -> None:
        chosen = self._next()
        self.playing[world], self.numbers[world], self.begun[world] = chosen.id, chosen.dealt, self.taken
        chosen.dealt += 1

    def _next(self) -> Contender:
        """Return who is to play. What has been dealt counts as played, or worlds dealt at once would get the same."""
        length = self.longest or 1
        learning = self.steps["learner"] + length * self.playing.count(LEARNER)
        everything = sum(self.steps.values()) + length * sum(who != NOBODY for who in self.playing)
        if learning <= self.config.learner_share * everything:
            return self.learner
        return min((self.champion, *self.challengers), key=lambda c: (self._played(c), c.id))

    def _played(self, contender: Contender) -> float:
        """Return a contender's episodes, the champion's counted double."""
        count = contender.played + self.playing.count(contender.id)
        return 2.0 * count if contender is self.champion else float(count)

    def _kind(self, who: int) -> str:
        if who == self.champion.id:
            return "champion"
        return "learner" if who in (LEARNER, NOBODY) else "challengers"
