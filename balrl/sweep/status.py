"""A sweep at a glance: how many runs stand where, how long the rest will take, and what went wrong."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from balrl.foreign import read_json
from balrl.quantities import duration
from balrl.run.presets import TrainConfig
from balrl.sweep.folder import Standing, State, SweepFolder

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands.

    Attributes:
        standings: of every run.
        progress: share of each that is running and has a record, from 0 to 1.
        left: seconds until the rest is done at the pace of the finished ones; None if that cannot be told yet.
    """

    standings: Mapping[str, Standing]
    progress: Mapping[str, float]
    left: float | None

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are in every state that one is in."""
        found = Counter(standing.state for standing in self.standings.values())
        return {state: found[state] for state in get_args(State) if found[state]}

    def line(self) -> str:
        """Return all of it in one line."""
        total = len(self.standings)
        parts = [f"{self.counts.get('finished', 0)} of {total} runs are finished"]
        parts += [f"{count} {state}" for state, count in self.counts.items() if state != "finished"]
        return ", ".join(parts) + (f"; about {duration(self.left)} left" if self.left else "")


def look_at(folder: SweepFolder) -> SweepStatus:
    """Return where a sweep stands."""
    standings = folder.standings()
    progress = {name: _progress(folder, name) for name, s in standings.items() if s.state == "running"}
    took = [_seconds(folder, name) for name, s in standings.items() if s.state == "finished"]
    running = len(progress)
    left = None
    if took and running:
        rest = sum(1 for s in standings.values() if s.state in ("open", "waiting"))
        left = median(took) * (rest + sum(1 - share for share in progress.values())) / running
    return SweepStatus(standings, progress, left)


def status_table(folder: SweepFolder, status: SweepStatus, limit: int = 40) -> Table:
    """Return a table of the runs, finished ones left out where there are many.

    Args:
        folder: of the sweep.
        status: of it.
        limit: rows at most.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=status.line(), caption_justify="left")
    for column in ("run", "state", "attempts", "what it is, who is at it, or what went wrong"):
        table.add_column(column, justify="right" if column == "attempts" else "left", overflow="fold")
    many = len(status.standings) > limit
    shown = [(name, s) for name, s in status.standings.items() if not (many and s.state in ("finished", "open"))]
    for name, standing in shown[:limit]:
        state = f"{standing.state}, {status.progress[name]:.0%}" if name in status.progress else standing.state
        planned = folder.plan[name]
        words = standing.history.error if standing.state != "finished" else ""
        words = words or (f"for {planned.parent}" if standing.state == "waiting" else said(planned.labels))
        if standing.holder:
            words = f"{standing.holder}, for {age(standing.history.since)}"
        table.add_row(Text(name), state, str(standing.history.attempts or ""), Text(words))
    return table


def said(labels: Mapping[str, Any]) -> str:
    """Return what a sweep's file calls a run."""
    values = {key: value for key, value in labels.items() if key != "preset"}
    return ", ".join([str(labels.get("preset", "")), *(f"{key}={value}" for key, value in values.items())])


def _progress(folder: SweepFolder, name: str) -> float:
    """Return the share of a run that its newest record stands at."""
    file = folder.run_dir(name) / "metrics.jsonl"
    if not file.exists():
        return 0.0
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 10_000))
        lines = content.read().splitlines()
    for line in reversed(lines):
        try:
            return min(1.0, json.loads(line)["step"] / max(1, _total(folder.plan[name].config)))
        except (ValueError, KeyError, TypeError):
            continue
    return 0.0


def _total(config: TrainConfig) -> int:
    return config.pretrain.updates + config.warmup.steps + config.finetune.steps


def _seconds(folder: SweepFolder, name: str) -> float:
    found = read_json(folder.run_dir(name) / "summary.json", dict).get("wall_seconds", {})
    return float(sum(found.values())) if isinstance(found, dict) else 0.0


def age(since: float) -> str:
    """Return how long ago a moment was, as `time.time` tells it."""
    return duration(max(0.0, time.time() - since))
