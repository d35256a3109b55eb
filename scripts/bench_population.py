"""Compare updates of a population with those of its members one after another, in turns on one machine.

    python scripts/bench_population.py [--kinds iql sac …] [--members 8] [--threads 1] [--device cpu] [--out FILE]

Sizes as in `balrl bench update`; both sides run the fastest way there is (compiled on a CPU, captured on a GPU). One
member stands for all when they run one after another.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from balrl.bench.population import bench_population
from balrl.devices import check_device


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
    device = check_device(options.device)
    results = []
    for kind in options.kinds:
        results.append(bench_population(kind, options.members, device, options.rounds, options.seconds))
        print(json.dumps(results[-1], indent=2), flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
