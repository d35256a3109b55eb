"""Compare updates of a population with those of its members one after another, in turns on one machine.

    python scripts/bench_population.py [--kinds iql sac …] [--members 8] [--threads 1] [--device cpu] [--out FILE]

Sizes as in `balrl bench update`; both sides run the fastest way there is (compiled on a CPU, captured on a GPU). One
member stands for all when they run one after another.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from balrl.agent import Metrics
from balrl.bench.updates import BATCH, ROWS, Subject, per_second
from balrl.execution.population import Population
from balrl.execution.updates import choose_updates
from balrl.run.registry import resolve_device


def compare(kind: str, members: int, device: torch.device, rounds: int, seconds: float) -> dict[str, object]:
    """Return updates of a member per second, in a population and alone, and the population's share of the time."""
    alone = Subject(kind, "on", device)
    subjects = [Subject(kind, "off", device) for _ in range(members)]
    for seed, subject in enumerate(subjects):
        subject.agent.stream.reseed(seed)
        subject.replay = alone.replay
    first = subjects[0]
    population = Population([s.agent for s in subjects], [[alone.replay]] * members)
    updates = choose_updates("on", population, ROWS, print)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["iql", "sac"])
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    results = []
    for kind in options.kinds:
        results.append(compare(kind, options.members, device, options.rounds, options.seconds))
        print(json.dumps(results[-1], indent=2), flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
