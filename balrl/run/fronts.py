"""The Pareto fronts of trained agents: of one for several rewards, or of several that learned a weighted sum each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from balrl.errors import UserError
from balrl.evaluation import Evaluation, together
from balrl.front import check_reference
from balrl.run.trained import evaluate, stored_config, stored_weights


def fronts(
    runs: Sequence[str | Path],
    env: Any = None,
    episodes: int = 10,
    preferences: int = 11,
    seed: int = 10_000,
    num_envs: int = 10,
    device: str = "auto",
    reference: Sequence[float] | None = None,
) -> dict[str, Evaluation]:
    """Play the preferences of runs, and return what every episode returned; `Evaluation.front` has the means.

    Args:
        runs: run or checkpoint directories of agents for several rewards, each with a front of its own; and of agents
            for one, trained with `data.reward_weights`, which together make one front, each a point of it (those of
            the same weights are averaged).
        env: as `balrl.evaluate`'s; by default each run's own task.
        episodes: of every preference.
        preferences: of an agent for several rewards, at least, spread evenly.
        seed, num_envs, device: as `balrl.evaluate`'s.
        reference: point above which hypervolumes are measured; by default each run's own.

    Returns:
        by the run's name, or ``weighted sums`` for those that learned from one reward.

    Raises:
        UserError: for a run that learned from one reward that was no weighted sum, runs of other tasks or numbers of
            rewards than the first, and a reference that does not fit them.
    """
    _check_together(runs, env, reference)
    found: dict[str, Evaluation] = {}
    sums: list[Evaluation] = []
    for run in runs:
        config = stored_config(run)
        weights = stored_weights(config)
        settings: dict[str, Any] = {"episodes": episodes, "seed": seed, "num_envs": num_envs, "device": device}
        if int(config["agent"].get("objectives", 1)) > 1:
            found[_named(Path(run), found)] = evaluate(run, env, preferences=preferences, **settings)
        elif weights:
            total = sum(weights)
            if min(weights) < 0 or not total > 0:
                raise UserError(f"'{run}' was trained with the weights {list(weights)}: no preference, which is ≥ 0")
            sums.append(evaluate(run, env, preference=[w / total for w in weights], **settings))
        else:
            raise UserError(f"'{run}' learned from one reward: a front is of agents for several, or of reward_weights")
    if sums:
        found["weighted sums"] = together(sums, sums[0].hypervolume_reference)
    if reference is None:
        return found
    return {name: replace(result, hypervolume_reference=tuple(reference)) for name, result in found.items()}


def _check_together(runs: Sequence[str | Path], env: Any, reference: Sequence[float] | None) -> None:
    """Make sure, before anything is played, that runs are of the same rewards in the same task."""
    first: tuple[int, Any, Any] | None = None
    for run in runs:
        config = stored_config(run)
        weights = stored_weights(config)
        task = (config.get("env"), config.get("env_kwargs")) if env is None else (None, None)
        found = (max(int(config["agent"].get("objectives", 1)), len(weights)), *task)
        if reference is not None and found[0] > 1:
            check_reference(reference, found[0])
        first = found if first is None else first
        if found != first:
            one, other = (
                f"{m} rewards of {name or 'the task'} {kwargs or ''}".strip() for m, name, kwargs in (found, first)
            )
            raise UserError(
                f"'{run}' learned from {one}, '{runs[0]}' from {other}: fronts are compared in one task (name it with "
                "env), of the same rewards"
            )


def _named(run: Path, taken: dict[str, Evaluation]) -> str:
    return run.name if run.name not in taken else str(run)
