"""Champion and challengers: whose policy plays which episode, and when another one has earned the crown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from balrl.config import ChampionConfig
from balrl.run.halving import probability_above

LEARNER, NOBODY = -1, -2
"""Who plays beside the frozen policies: the learner, and whoever began an episode before the tournament did."""
KINDS = ("learner", "champion", "challengers")


@dataclass
class Contender:
    """A frozen policy.

    Attributes:
        id: never given twice; the first champion is 0.
        born: environment steps of fine-tuning when it was frozen.
        looks: how often it was compared with the champion.
        dealt: episodes that it was given.
        episodes: that it has finished: the number of each, in the order in which they were dealt, and its value.
    """

    id: int
    born: int
    looks: int = 0
    dealt: int = 0
    episodes: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Tournament:
    """Deals episodes to a champion, to challengers and to the learner, and names the champion.

    - The learner plays its share of the environment steps. Of the frozen policies the one with the fewest episodes
      plays, the champion counting double; without a challenger all the rest is the champion's.
    - Episodes count in the order in which they were dealt: none before those that were dealt earlier to the same player
      have ended. Nobody is favoured because bad episodes are short, or good ones.
    - The learner's present policy becomes a challenger when its last episodes are at least as good as the champion's,
      some time has passed since the last, and there is a place; of those that have played enough the least probable
      makes room.
    - A challenger is compared with the champion after `min_episodes`, and whenever they have doubled. It becomes
      champion when the probability that its mean is above the champion's reaches ``1 − (1 − confidence) / m``, m being
      all comparisons of the run so far (Bonferroni). The learner's episodes, by which it was chosen to be a challenger,
      count for nothing. The old champion stays as a challenger. One that has become improbable is dropped.

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
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    taken: int = 0
    longest: int = 0
    entered: int = 0
    last_entry: int = 0
    looks: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, fresh: bool) -> None:
        """Deal the first episodes, or, where worlds are in the middle of one, wait for their ends."""
        self.playing, self.numbers = [NOBODY] * self.worlds, [0] * self.worlds
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
                self._note(self.playing[world], self.numbers[world], float(found[0]))
                self.longest = max(self.longest, int(found[1]))
            self.playing[world] = NOBODY
        if ended:
            self._judge()
        for world in ended:
            self._deal(world)

    @property
    def is_due(self) -> bool:
        """Whether the learner's present policy is to become a challenger."""
        enough, last = self.config.min_episodes, self.last_of_learner
        ready = self.taken - self.last_entry >= self.config.every and len(last) >= enough
        if not ready or len(self.values(self.champion)) < enough:
            return False
        has_place = len(self.challengers) < self.config.challengers or bool(self._tried())
        return has_place and probability_above(last, self.values(self.champion)) >= 0.5

    def enter(self) -> int:
        """Take the learner's present policy in as a challenger, and return its number."""
        if len(self.challengers) >= self.config.challengers:
            self.challengers.remove(min(self._tried(), key=self.probability))
        self.entered += 1
        self.last_entry = self.taken
        self.challengers.append(Contender(self.entered, self.taken))
        return self.entered

    @property
    def frozen(self) -> list[int]:
        """The numbers of the policies that may be asked to play."""
        return [self.champion.id, *(c.id for c in self.challengers), *(who for who in self.playing if who >= 0)]

    @property
    def last_of_learner(self) -> list[float]:
        """Values of the learner's last episodes that count."""
        return self.values(self.learner)[-self.config.window :]

    def values(self, contender: Contender) -> list[float]:
        """Return the values of a contender's own episodes that count, in the order in which they were dealt."""
        running = [n for n, who in zip(self.numbers, self.playing, strict=True) if who == contender.id]
        first = min(running, default=contender.dealt)
        return [value for number, value in sorted(contender.episodes) if number < first]

    def probability(self, challenger: Contender) -> float:
        """Return the probability that a challenger's mean is above the champion's."""
        return probability_above(self.values(challenger), self.values(self.champion))

    @property
    def threshold(self) -> float:
        """The probability that makes a champion."""
        return 1 - (1 - self.config.confidence) / max(1, self.looks)

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
            Contender(**{**one, "episodes": [(int(number), float(value)) for number, value in one["episodes"]]})
            for one in (state["learner"], state["champion"], *state["challengers"])
        )

    def _note(self, who: int, number: int, value: float) -> None:
        for contender in (self.learner, self.champion, *self.challengers):
            if contender.id == who:
                contender.episodes.append((number, value))
        kept = self.config.window + 2 * self.worlds  # some that were dealt earlier have yet to end
        self.learner.episodes = self.learner.episodes[-kept:]

    def _judge(self) -> None:
        own, enough = self.values(self.champion), self.config.min_episodes
        if len(own) < enough:
            return
        for challenger in list(self.challengers):
            values = self.values(challenger)
            if len(values) < enough * 2**challenger.looks:
                continue
            challenger.looks += 1
            self.looks += 1
            probability = self.probability(challenger)
            if probability >= self.threshold:
                self.changes.append(
                    {
                        "step": self.taken,
                        "born": challenger.born,
                        "probability": round(probability, 5),
                        "mean": float(np.mean(values)),
                        "over": float(np.mean(own)),
                        "episodes": [len(values), len(own)],
                    }
                )
                self.challengers.remove(challenger)
                self.challengers.append(self.champion)
                self.champion = challenger
                return
            if probability < 1 - self.config.confidence:
                self.challengers.remove(challenger)

    def _tried(self) -> list[Contender]:
        return [c for c in self.challengers if len(self.values(c)) >= self.config.min_episodes]

    def _deal(self, world: int) -> None:
        chosen = self._next()
        self.playing[world], self.numbers[world] = chosen.id, chosen.dealt
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
        count = len(contender.episodes) + self.playing.count(contender.id)
        return 2.0 * count if contender is self.champion else float(count)

    def _kind(self, who: int) -> str:
        if who == self.champion.id:
            return "champion"
        return "learner" if who in (LEARNER, NOBODY) else "challengers"
