"""Sequential halving over complete episodes: which of several policies returns most, within so many steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from balrl.run.pooling import Place, Pooled, pool

NOBODY = (-1, -1)
"""Plays an episode that is not counted."""


@dataclass
class Halving:
    """Sequential halving (Karnin, Koren and Somekh, 2013) of arms whose rewards are episodes' values.

    The steps are split evenly over ``ceil(log2 arms)`` rounds. Arms are dealt to worlds in cycles, one episode of every
    arm that is left in each. A cycle counts once it is so long ago that any episode of it would have ended (as long as
    the longest so far), and with all its episodes or not at all: in every comparison all arms have played equally
    often, and none is favoured because its bad or its good episodes are short. At a round's end the better half stays,
    by the mean of its episodes that count; the prior arm stays to the end.

    With `places`, means are those that `pool` makes of all arms' episodes: members that act alike return alike, and a
    few episodes of each say more together.

    At the end the best mean wins if the probability that it is above the prior's reaches `confidence`; otherwise, and
    in a tie, the prior does.

    Attributes:
        arms: how many, the prior first.
        steps: environment steps altogether.
        worlds: side by side; each plays one episode after another.
        confidence: 0.5: the best mean; 1: always the prior.
        places: of the arms among each other; empty: each is judged by its own episodes alone.
    """

    arms: int
    steps: int
    worlds: int
    confidence: float = 0.5
    places: list[Place] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    round: int = 0
    taken: int = 0
    longest: int = 0
    clock: int = 0
    since: int = 0
    begun: list[int] = field(default_factory=list)
    queue: list[tuple[int, int]] = field(default_factory=list)
    playing: list[tuple[int, int]] = field(default_factory=list)
    values: list[dict[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.playing:
            self.alive, self.values = list(range(self.arms)), [{} for _ in range(self.arms)]
            self.playing = [NOBODY] * self.worlds
            for world in range(self.worlds):
                self._deal(world)

    @property
    def rounds(self) -> int:
        """How often the arms are halved."""
        return max(1, math.ceil(math.log2(self.arms)))

    @property
    def leader(self) -> int:
        """The arm that is ahead; it plays where nobody's episode counts."""
        return self._order(self.alive)[0]

    def advance(self, made: int, ended: Mapping[int, tuple[float, int] | None]) -> None:
        """Take note of a vector step, and deal the next episodes.

        Args:
            made: environment steps that it was.
            ended: worlds whose episode ended with it, with the episode's value and length; None where it came to
                nothing: it is played again.
        """
        self.taken += made
        self.clock += 1
        for world, found in ended.items():
            (arm, cycle), self.playing[world] = self.playing[world], NOBODY
            if found is not None:
                self.longest = max(self.longest, int(found[1]))
            if arm in self.alive and found is None:
                self.queue.insert(0, (arm, cycle))
            elif arm >= 0 and found is not None:
                self.values[arm][cycle] = float(found[0])
        if self._round_is_over:
            kept = max(math.ceil(len(self.alive) / 2), min(2, self.arms))
            self.alive = sorted(self._order(self.alive, protected=True)[:kept])
            self.queue = [dealt for dealt in self.queue if dealt[0] in self.alive]
            self.round, self.since = self.round + 1, self.clock
        for world in ended:
            self._deal(world)

    def winner(self) -> int:
        """Return the arm that is to act from now on."""
        best = self.leader
        better = self.mean(best) > self.mean(0) and self.probability(best) >= self.confidence
        return best if better else 0

    def counted(self, arm: int) -> list[float]:
        """Return the values of an arm's episodes that count, in the order of their cycles."""
        return self._values_in(arm, self._counting_cycles())

    def probability(self, arm: int) -> float:
        """Return the probability that an arm's mean is above the prior's."""
        pooled = self.pooled()
        return (
            probability_above(self.counted(arm), self.counted(0))
            if pooled is None
            else pooled.probability_above(arm, 0)
        )

    def mean(self, arm: int) -> float:
        """Return the mean of an arm, pooled with the others' where there are places; −∞ without any episode."""
        return self._means(self._counting_cycles())[arm]

    def pooled(self) -> Pooled | None:
        """Return what all counted episodes say of the arms; None without places or episodes."""
        return self._pooled(self._counting_cycles())

    def state(self) -> dict[str, Any]:
        """Return everything, as plain JSON types."""
        return {
            "arms": self.arms,
            "steps": self.steps,
            "worlds": self.worlds,
            "confidence": self.confidence,
            "places": [list(place) for place in self.places],
            "alive": list(self.alive),
            "round": self.round,
            "taken": self.taken,
            "longest": self.longest,
            "clock": self.clock,
            "since": self.since,
            "begun": list(self.begun),
            "queue": [list(dealt) for dealt in self.queue],
            "playing": [list(dealt) for dealt in self.playing],
            "values": [sorted([cycle, value] for cycle, value in values.items()) for values in self.values],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Halving:
        """Undo `state`."""
        dealt = {key: [(int(arm), int(cycle)) for arm, cycle in state[key]] for key in ("queue", "playing")}
        values = [{int(cycle): float(value) for cycle, value in pairs} for pairs in state["values"]]
        places = [Place(*place) for place in state.get("places", ())]
        return cls(**{**state, **dealt, "values": values, "places": places})

    def _deal(self, world: int) -> None:
        if not self.queue and self._may_begin_a_cycle:
            first = len(self.begun) % len(self.alive)  # no arm is always the first to play
            self.queue = [(arm, len(self.begun)) for arm in self.alive[first:] + self.alive[:first]]
            self.begun.append(self.clock)
        self.playing[world] = self.queue.pop(0) if self.queue else NOBODY
        if self.playing[world] != NOBODY:
            self.begun[self.playing[world][1]] = self.clock

    @property
    def _may_begin_a_cycle(self) -> bool:
        if len(self.alive) < 2:
            return False
        side_by_side = math.ceil(len(self.alive) / self.worlds) * self.worlds
        return self.taken + side_by_side * self.longest <= self.steps

    @property
    def _round_is_over(self) -> bool:
        """Whether the arms are to be halved: not without a cycle of this round that counts, and not in the last."""
        if self.round >= self.rounds - 1 or self.taken < self.steps * (self.round + 1) / self.rounds:
            return False
        return any(self.begun[cycle] >= self.since for cycle in self._counting_cycles())

    def _counting_cycles(self) -> list[int]:
        others = [self.values[other] for other in self.alive]
        long_ago = (cycle for cycle, begun in enumerate(self.begun) if begun + self.longest <= self.clock)
        return [cycle for cycle in long_ago if all(cycle in other for other in others)]

    def _order(self, arms: Sequence[int], protected: bool = False) -> list[int]:
        """Return arms, the best mean first and the lower number in a tie; the prior first where it is protected."""
        means = self._means(self._counting_cycles())
        return sorted(arms, key=lambda arm: (not (protected and arm == 0), -means[arm], arm))

    def _means(self, cycles: Sequence[int]) -> list[float]:
        pooled = self._pooled(cycles)
        if pooled is not None:
            return [float(mean) for mean in pooled.mean]
        return [_mean(self._values_in(arm, cycles)) for arm in range(self.arms)]

    def _pooled(self, cycles: Sequence[int]) -> Pooled | None:
        return pool([self._values_in(arm, cycles) for arm in range(self.arms)], self.places) if self.places else None

    def _values_in(self, arm: int, cycles: Sequence[int]) -> list[float]:
        return [self.values[arm][cycle] for cycle in cycles if cycle in self.values[arm]]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else -math.inf


def probability_above(values: Sequence[float], others: Sequence[float]) -> float:
    """Return P(mean of one > mean of the other) by Student's t; 0.5 where either is empty.

    The variance is pooled, with half the range of all values, squared, as one more square: two equal successes in a row
    prove little.
    """
    from scipy.special import stdtr

    x, y = np.asarray(values, np.float64), np.asarray(others, np.float64)
    n, m = len(x), len(y)
    if not n or not m:
        return 0.5
    everything = np.concatenate([x, y])
    within = float(np.square(x - x.mean()).sum() + np.square(y - y.mean()).sum())
    doubt = 0.25 * float(np.ptp(everything)) ** 2
    variance = (within + doubt) / (n + m - 1)
    difference = float(x.mean() - y.mean())
    if variance == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return float(stdtr(n + m - 1, difference / math.sqrt(variance * (1 / n + 1 / m))))
