"""Returns of a deterministic policy, normalised scores, and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from balrl.errors import UserError
from balrl.front import Front
from balrl.rollout import Collector, Step
from balrl.vector_critics import checked_preference, with_preference

Preference = Sequence[float] | Callable[[NDArray[Any], NDArray[Any]], ArrayLike]
"""Weights of several rewards, or what gives them for observations ``[N, ·]`` and their episodes' steps ``[N]``."""
BETWEEN_LOOKS = 32
"""Steps on a GPU between the host's questions whether all episodes have ended."""


@dataclass(frozen=True)
class Reference:
    """Returns that count as 0 and 100, and where they come from."""

    minimum: float
    maximum: float
    source: str

    def normalize(self, value: float) -> float:
        """Return ``100 · (value − minimum) / (maximum − minimum)``."""
        return 100.0 * (value - self.minimum) / (self.maximum - self.minimum)


@dataclass(frozen=True)
class Evaluation:
    """What N episodes came to.

    Attributes:
        returns: undiscounted, one per episode; of several rewards, their utility under the preference that was played.
        lengths: in steps, one per episode.
        seed: of the environments.
        successes: one per episode, True where the task reported success at any step; None if it reports none.
        reference: what normalised scores are relative to, if anything is.
        return_vectors: of several rewards, what each of them returned, one vector per episode.
        preferences: the one that was played, one per episode.
        hypervolume_reference: above which the hypervolume of the front is measured.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int
    successes: tuple[bool, ...] | None = None
    reference: Reference | None = None
    return_vectors: tuple[tuple[float, ...], ...] | None = None
    preferences: tuple[tuple[float, ...], ...] | None = None
    hypervolume_reference: tuple[float, ...] | None = None

    @property
    def front(self) -> Front | None:
        """Of several rewards: what each preference that was played returned on the average."""
        if self.preferences is None or self.return_vectors is None:
            return None
        return Front.of_episodes(self.preferences, self.return_vectors)

    @property
    def mean_return(self) -> float:
        return float(np.mean(self.returns))

    @property
    def normalized_score(self) -> float | None:
        """0 for the reference's minimum, 100 for its maximum; None without a reference."""
        return self.reference.normalize(self.mean_return) if self.reference else None

    @property
    def success_rate(self) -> float | None:
        """In [0, 1]; None if the task reports no success."""
        return float(np.mean(self.successes)) if self.successes is not None else None

    @property
    def score(self) -> float:
        """The normalised score where there is one, else the mean return: what curves show and `best` compares."""
        return self.mean_return if self.normalized_score is None else self.normalized_score

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "score": self.score,
            "normalized_score": self.normalized_score,
            "return_mean": self.mean_return,
            "return_std": float(np.std(self.returns)),
            "length_mean": float(np.mean(self.lengths)),
            "success_rate": self.success_rate,
            "episodes": len(self.returns),
            "seed": self.seed,
            "reference": self.reference.source if self.reference else None,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            **(self.front.to_json(self.hypervolume_reference) if self.front else {}),
        }


class EvaluationStopped(Exception):
    """Somebody asked for an end before all episodes had one."""


def evaluate_policy(
    act: Callable[[Tensor], Tensor],
    env: gym.vector.VectorEnv[Any, Any, Any],
    episodes: int,
    seed: int,
    device: torch.device | str = "cpu",
    reference: Reference | None = None,
    max_episode_steps: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    preference: Preference | None = None,
) -> Evaluation:
    """Run `episodes` episodes and return what they came to.

    Each world is given its number of episodes beforehand. Taking the first `episodes` to finish would favour short
    ones.

    Args:
        act: maps observations ``[N, observation_dim]`` to actions in [-1, 1]; must be deterministic, or the result is
            not repeatable. One with `saw` and `begin` (`balrl.remembering.RememberingPolicy`) is told of every step.
        env: its worlds are reset with `seed`, `seed` + 1, …
        max_episode_steps: after so many an episode counts as it stands; for tasks without a limit of their own. A world
            waits then until the others have come as far, and all begin anew.
        should_stop: asked at every step.
        preference: of several rewards, that `act` gets beside the observations, and under which they are weighed; or
            a function of observations ``[N, ·]`` and steps ``[N]``, numpy, that gives one ``[m]`` or ``[N, m]``.

    Raises:
        EvaluationStopped: when `should_stop` says so.
    """
    collector = Collector(env, device, seed)
    n, several = env.num_envs, collector.reward_dim > 1
    if several and preference is None:
        raise UserError(f"the task pays {collector.reward_dim} rewards a step: which preference over them?")
    if preference is not None and not several:
        raise UserError("the task pays one reward a step: a preference is over several, leave it out")
    fixed = None
    if preference is not None and not callable(preference):
        preference = fixed = tuple(checked_preference(preference, collector.reward_dim).tolist())
    played = None if preference is None else _Preferred(act, preference, collector)
    quota = torch.tensor([(episodes + i) // n for i in range(n)][::-1], device=collector.device)
    counts = torch.zeros_like(quota)
    width = 3 + (collector.reward_dim if several else 0)
    found = torch.zeros(n, int(quota.max()) + 1, width, dtype=torch.float64, device=collector.device)
    worlds = torch.arange(n, device=collector.device)
    waiting = torch.zeros(n, dtype=torch.bool, device=collector.device)
    limit = math.inf if max_episode_steps is None else max_episode_steps
    rounds, saw, begin = 1, getattr(act, "saw", None), getattr(act, "begin", None)
    if begin is not None:
        begin()
    while bool((counts < quota).any()):
        if max_episode_steps is not None and bool((waiting | (counts >= quota)).all()):
            collector.start(seed + rounds * n)
            if begin is not None:
                begin()
            waiting, rounds = torch.zeros_like(waiting), rounds + 1
        for _ in range(1 if collector.device.type == "cpu" else BETWEEN_LOOKS):
            if should_stop():
                raise EvaluationStopped
            step = collector.step(act if played is None else played.act)
            if saw is not None:
                saw(step)
            ended = step.done | (step.lengths >= limit)
            success = torch.zeros_like(step.done) if step.success is None else step.success
            each = [step.returns] if played is None else [played.utilities(step), *step.returns.unbind(-1)]
            row = torch.stack([step.lengths, success, *each], -1)
            due = ended & ~waiting & (counts < quota)
            if step.valid is not None:
                due = due & step.valid  # an episode whose world failed came to nothing
            slot = torch.where(due, counts, quota)  # what is not asked for goes behind the rest
            found[worlds, slot] = torch.where(due.unsqueeze(-1), row, found[worlds, slot])
            counts = counts + due
            waiting = waiting | (ended & ~step.done)
    collector.check()
    rows = [row for world, asked in zip(found.tolist(), quota.tolist(), strict=True) for row in world[:asked]]
    return Evaluation(
        tuple(row[2] for row in rows),
        tuple(int(row[0]) for row in rows),
        seed,
        tuple(bool(row[1]) for row in rows) if collector.reports_success else None,
        reference,
        tuple(tuple(row[3:]) for row in rows) if several else None,
        None if fixed is None else (fixed,) * len(rows),
    )


class _Preferred:
    """A policy with a preference beside its observations, and what the rewards are worth under it.

    Args:
        act: maps observations with a preference, ``[N, observation_dim + m]``, to actions.
        preference: one, or a function that gives them step by step.
        collector: that asks for actions.
    """

    def __init__(self, act: Callable[[Tensor], Tensor], preference: Preference, collector: Collector) -> None:
        self._act, self._preference, self._collector = act, preference, collector
        self._now = torch.empty(0)
        self._sums = torch.zeros(collector.num_envs, dtype=torch.float64, device=collector.device)

    def act(self, observations: Tensor) -> Tensor:
        """Return actions ``[N, action_dim]`` for observations ``[N, observation_dim]``."""
        asked: Any = self._preference
        if callable(asked):
            asked = asked(observations.cpu().numpy(), self._collector.lengths.cpu().numpy())
        self._now = checked_preference(asked, self._collector.reward_dim, len(observations)).to(observations)
        return self._act(with_preference(observations, self._now))

    def utilities(self, step: Step) -> Tensor:
        """Return ``Σ_t w_tᵀ r_t`` ``[N]`` of the running episodes, this step included."""
        counted = 1 if step.valid is None else step.valid
        now = (step.batch.rewards * self._now).double().sum(-1) * counted
        self._sums = torch.where(step.lengths > 1, self._sums, 0.0) + now
        return self._sums


def together(evaluations: Sequence[Evaluation], hypervolume_reference: tuple[float, ...] | None = None) -> Evaluation:
    """Return the episodes of several evaluations, under a preference each, as one; a single one as it is."""
    first = replace(evaluations[0], hypervolume_reference=hypervolume_reference)
    names = ("returns", "lengths", "successes", "return_vectors", "preferences")
    joined: dict[str, Any] = {
        n: None if getattr(first, n) is None else sum((getattr(e, n) for e in evaluations), ()) for n in names
    }
    return replace(first, **joined)


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all scores (Agarwal et al., arXiv 2108.13264)."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(scores, np.float64), 0.25, axis=None))


def bootstrap_interval(
    scores: Sequence[ArrayLike] | NDArray[Any],
    statistic: Callable[[NDArray[Any]], float] = iqm,
    confidence: float = 0.95,
    samples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a stratified percentile-bootstrap interval of a statistic.

    Args:
        scores: ``[tasks][seeds]``; seeds are resampled with replacement within each task.
        statistic: of the pooled scores.
    """
    rng = np.random.default_rng(seed)
    tasks = [np.asarray(task, np.float64).ravel() for task in scores]
    values = [statistic(np.concatenate([rng.choice(task, len(task)) for task in tasks])) for _ in range(samples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def probability_of_improvement(
    scores: Sequence[ArrayLike],
    others: Sequence[ArrayLike],
    confidence: float = 0.95,
    samples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return P(X > Y) + ½ P(X = Y), averaged over tasks, and its stratified bootstrap interval (arXiv 2108.13264).

    Args:
        scores, others: ``[tasks][seeds]`` of the two methods; larger is better.
    """
    rng = np.random.default_rng(seed)
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(scores, others, strict=True)]

    def average(chosen: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
        wins = [(np.sign(x[:, None] - y[None]) + 1).mean() / 2 for x, y in chosen]
        return float(np.mean(wins))

    values = [average([(rng.choice(x, len(x)), rng.choice(y, len(y))) for x, y in pairs]) for _ in range(samples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return average(pairs), float(low), float(high)
