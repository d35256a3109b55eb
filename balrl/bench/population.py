"""What a population costs beside its members one after another."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from balrl.agent import Metrics
from balrl.bench.updates import BATCH, ROWS, Subject, per_second
from balrl.execution.population import Population
from balrl.execution.updates import choose_updates


def bench_population(
    kind: str, members: int, device: torch.device | str, rounds: int, seconds: float
) -> dict[str, Any]:
    """Return updates of a member per second, in a population and alone, measured in turns, and their ratio.

    Args:
        kind: one of `balrl.bench.updates.KINDS`.
        members: of the population.
        device: where.
        rounds: turns of each.
        seconds: of each turn.
    """
    alone = Subject(kind, "on", device)
    subjects = [Subject(kind, "off", device) for _ in range(members)]
    for seed, subject in enumerate(subjects):
        subject.agent.stream.reseed(seed)
        subject.replay = alone.replay
    first = subjects[0]
    population = Population([s.agent for s in subjects], [[alone.replay]] * members)
    updates = choose_updates("on", population, ROWS, lambda _: None)

    def update() -> Metrics:
        return first.agent.update_utd(alone.replay.sample(BATCH, first.kind.utd, first.agent.stream), first.kind.utd)

    def together(count: int) -> None:
        updates.run(population.batched(update), "bench", count)

    turns: dict[str, list[float]] = {"population": [], "one after another": []}
    for run in (together, alone.run):
        per_second(run, seconds / 2, device)
    for _ in range(rounds):
        turns["population"].append(per_second(together, seconds, device))
        turns["one after another"].append(per_second(alone.run, seconds, device) / members)
    rates = {name: statistics.median(found) for name, found in turns.items()}
    return {
        "kind": kind,
        "members": members,
        "threads": torch.get_num_threads(),
        "device": str(device),
        "updates of each member per second": {
            name: {"median": rates[name], "low": min(found), "high": max(found)} for name, found in turns.items()
        },
        "ratio": rates["population"] / rates["one after another"],
    }
