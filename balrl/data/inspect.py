"""What a dataset holds, and what is broken in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.data.reward_lag import shifted_rewards


@dataclass(frozen=True)
class TaskContext:
    """What is known of the task that a dataset is for; everything may be unknown.

    Attributes:
        action_low, action_high: bounds of the action space, ``[action_dim]``.
        observation_dim, action_dim: widths.
        max_episode_steps: the step limit.
    """

    action_low: Array | None = None
    action_high: Array | None = None
    observation_dim: int | None = None
    action_dim: int | None = None
    max_episode_steps: int | None = None


@dataclass(frozen=True)
class Description:
    """The rows of ``balrl data info``: pairs of a name and a text, and the warnings."""

    rows: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def describe(dataset: Dataset, context: TaskContext | None = None) -> Description:
    """Return counts, returns, episode lengths and ranges of a dataset, and what `problems` finds."""
    returns, lengths = dataset.episode_returns, dataset.episode_lengths
    several = dataset.reward_dim > 1
    of = [f" {i + 1} of {dataset.reward_dim}" for i in range(dataset.reward_dim)] if several else [""]
    rows = (
        ("environment", dataset.env_id or "not named in the file"),
        ("transitions", f"{len(dataset):,}"),
        ("episodes", f"{len(returns):,}"),
        (
            "ends",
            f"{dataset.terminated.sum():,} terminated, {(dataset.truncated & ~dataset.terminated).sum():,} truncated",
        ),
        ("observations", f"{dataset.observations.shape[1]} dimensions, {_range(dataset.observations)}"),
        ("actions", f"{dataset.actions.shape[1]} dimensions, {_range(dataset.actions)}"),
        *(
            (f"rewards{which}", f"{_range(rewards)}, mean {rewards.mean():.4g}")
            for which, rewards in zip(of, dataset.rewards.reshape(len(dataset), -1).T, strict=True)
        ),
        *((("rewards from", dataset.rewards_from),) if dataset.rewards_from else ()),
        *(
            (f"episode return{which}", _five_numbers(column))
            for which, column in zip(of, returns.reshape(len(returns), -1).T, strict=True)
        ),
        ("episode length", _five_numbers(lengths)),
        *(
            ()
            if several
            else (("share of transitions", f"best 10 % of episodes hold {_share_of_best(dataset, 0.1):.0%}"),)
        ),
        (
            "size in memory",
            f"{sum(v.nbytes for v in vars(dataset).values() if isinstance(v, np.ndarray)) / 1e6:.1f} MB",
        ),
    )
    return Description(rows, (*dataset.notes, *problems(dataset, context)))


def problems(dataset: Dataset, context: TaskContext | None = None) -> list[str]:
    """Return what is broken or suspicious, a sentence each with the count and what to do; empty if nothing is."""
    context = context or TaskContext()
    found = [*dataset.flaws, *_wrong_shapes(dataset, context), *not_finite(dataset)]
    found += _missing_ends(dataset) + _suspicious_terminals(dataset, context.max_episode_steps)
    found += _actions_out_of_bounds(dataset, context) + _degenerate(dataset)
    for index in range(dataset.reward_dim):
        found += shifted_rewards(dataset.of_reward(index))
    return list(dict.fromkeys(found))


def _wrong_shapes(dataset: Dataset, context: TaskContext) -> list[str]:
    found = []
    for name, expected in (("observations", context.observation_dim), ("actions", context.action_dim)):
        width = getattr(dataset, name).shape[1]
        if expected is not None and width != expected:
            found.append(
                f"{name} have {width} dimensions, the task has {expected}: data and task do not belong together"
            )
    return found


def not_finite(dataset: Dataset) -> list[str]:
    """Return which columns hold NaN or infinite values."""
    found = []
    for name in ("observations", "actions", "rewards", "next_observations"):
        values = getattr(dataset, name).reshape(len(dataset), -1)
        rows = np.concatenate(
            [rows.start + np.flatnonzero(~np.isfinite(values[rows]).all(1)) for rows in dataset.chunks()]
        )
        if len(rows):
            found.append(
                f"{name}: {len(rows):,} rows are NaN or infinite, the first is row {rows[0]:,}: remove these episodes"
            )
    return found


def _missing_ends(dataset: Dataset) -> list[str]:
    """Inside an episode each row's successor must be the next row's observation; at an end it must not be."""
    if len(dataset) < 2:
        return []
    following = dataset.observations[1:]
    same = np.isclose(dataset.next_observations[:-1], following, rtol=1e-4, atol=1e-5, equal_nan=True).all(1)
    inside = ~dataset.ends[:-1]
    broken = np.flatnonzero(inside & ~same)
    if not len(broken):
        return []
    share = len(broken) / max(1, int(inside.sum()))
    where = f"{len(broken):,} of {int(inside.sum()):,} rows inside episodes, the first is row {broken[0]:,}"
    if share > 0.2:
        return [
            f"next_observations disagree with the following row in {where}: the rows are unsorted, or the "
            "column is wrong"
        ]
    return [
        f"next_observations disagree with the following row in {where}: an episode's end is missing there; "
        "mark it in timeouts"
    ]


def _suspicious_terminals(dataset: Dataset, limit: int | None) -> list[str]:
    lengths = dataset.episode_lengths
    last = np.array([s.stop - 1 for s in dataset.episode_slices])
    terminal = dataset.terminated[last]
    if limit is None and len(lengths) > 1 and terminal.any():
        longest = int(lengths.max())
        if int((lengths == longest).sum()) > 1:
            limit = longest
    if limit is None:
        return []
    at_limit = int((terminal & (lengths == limit)).sum())
    if at_limit == 0 or (at_limit == 1 and len(lengths) > 1 and terminal.sum() > 2):
        return []
    return [
        f"{at_limit:,} of {int(terminal.sum()):,} terminals fall on step {limit:,} of their episode: these look like "
        "timeouts (a time limit must bootstrap); move them to timeouts"
    ]


def _actions_out_of_bounds(dataset: Dataset, context: TaskContext) -> list[str]:
    if context.action_low is None or context.action_high is None or context.action_dim != dataset.actions.shape[1]:
        return []
    outside = (dataset.actions < context.action_low - 1e-6) | (dataset.actions > context.action_high + 1e-6)
    if not outside.any():
        return []
    return [
        f"{int(outside.sum()):,} action values ({outside.mean():.1%}) are out of the task's bounds, up to "
        f"{np.abs(dataset.actions).max():.3g}: training clips them"
    ]


def _degenerate(dataset: Dataset) -> list[str]:
    found = []
    if not dataset.rewards.any():
        found.append("all rewards are zero: there is nothing to learn from; is the right column stored?")
    elif len(dataset) > 1 and np.ptp(dataset.rewards) == 0 and not dataset.terminated.any():
        found.append(
            f"all rewards are {dataset.rewards.flat[0]:.4g} and no episode terminates: no action is better than "
            "another; is the task labelled that the data are of?"
        )
    constant = np.flatnonzero(np.ptp(dataset.actions, axis=0) == 0) if len(dataset) > 1 else np.array([])
    if len(constant):
        found.append(f"action dimensions {constant.tolist()} never change")
    if len(np.flatnonzero(dataset.ends)) == 1 and len(dataset) > 10_000:
        found.append("the whole file is one episode: are terminals and timeouts stored?")
    return found


def _range(values: Array) -> str:
    return f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g}"


def _five_numbers(values: Array) -> str:
    q: Any = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return f"mean {np.mean(values):.1f}; min {q[0]:.1f}, quartiles {q[1]:.1f} / {q[2]:.1f} / {q[3]:.1f}, max {q[4]:.1f}"


def _share_of_best(dataset: Dataset, fraction: float) -> float:
    return len(dataset.top_fraction(fraction)) / len(dataset)
