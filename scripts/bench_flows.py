"""Updates a second of FQL and QC-FQL beside their authors' JAX releases, in turns on one core.

    python scripts/bench_flows.py --fql DIR --qc DIR --jax-python PYTHON [--rounds 3] [--seconds 5]

DIR are checkouts of seohongpark/fql and ColinQiyangLi/qc, which stay outside this project; PYTHON has jax, flax, optax
and ml_collections. Both sides sample from 200,000 transitions (17 observations, 6 actions), as the releases' own loops
do, and update with batches of 256 and four layers of 512. Prints medians of the turns and their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS, OBSERVATION_DIM, ACTION_DIM, BATCH, CHUNK, EPISODE = 200_000, 17, 6, 256, 5, 1_000
KINDS = {"fql": "fql", "qc-fql": "qc"}
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def release(kind: str, folder: str) -> Callable[[], Any]:
    """Return an update of the release: its own sampling, and its jitted update, waited for."""
    import jax
    import numpy as np

    sys.path.insert(0, folder)
    from importlib import util

    spec = util.spec_from_file_location(
        "release", Path(folder) / "agents" / f"{'fql' if kind == 'fql' else 'acfql'}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from utils.datasets import Dataset

    rng, config = np.random.default_rng(0), module.get_config()
    ends = (np.arange(ROWS) % EPISODE == EPISODE - 1).astype(np.float32)
    data = Dataset.create(
        observations=rng.normal(size=(ROWS, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(ROWS, ACTION_DIM)).astype(np.float32),
        rewards=rng.normal(size=ROWS).astype(np.float32),
        next_observations=rng.normal(size=(ROWS, OBSERVATION_DIM)).astype(np.float32),
        masks=np.ones(ROWS, np.float32),
        terminals=ends,
    )
    if kind == "fql":
        agents = [module.FQLAgent.create(0, data["observations"][:1], data["actions"][:1], config)]
    else:
        config.horizon_length = CHUNK
        agents = [module.ACFQLAgent.create(0, data["observations"][0], data["actions"][0], config)]

    def update() -> None:
        batch = data.sample(BATCH) if kind == "fql" else data.sample_sequence(BATCH, CHUNK, 0.99)
        agents[0], info = agents[0].update(batch)
        jax.block_until_ready(info)

    return update


def ours(kind: str) -> Callable[[], Any]:
    """Return an update of balrl's, compiled."""
    import torch

    from balrl.bench.updates import Subject

    torch.set_num_threads(1)
    subject = Subject(kind, "on")
    return lambda: subject.run(1)


def serve(update: Callable[[], Any]) -> None:
    """Answer each line with a number of seconds by updates a second over so long."""
    for _ in range(3):
        update()
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < float(line):
            update()
            count += 1
        print(count / passed, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fql", required=True)
    parser.add_argument("--qc", required=True)
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "KIND"), help="be one of the two sides")
    options = parser.parse_args()
    if options.worker:
        side, kind = options.worker
        serve(ours(kind) if side == "ours" else release(kind, getattr(options, KINDS[kind])))
        return
    print("| | balrl | release | ratio |\n| --- | --- | --- | --- |", flush=True)
    for kind in KINDS:
        sides = {}
        for side, python in (("ours", sys.executable), ("release", options.jax_python)):
            command = [python, __file__, "--fql", options.fql, "--qc", options.qc, "--worker", side, kind]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            sides[side] = subprocess.Popen(["taskset", "-c", "0", *command], env={**os.environ, **ONE_CORE}, **pipes)
        found: dict[str, list[float]] = {side: [] for side in sides}
        for worker in sides.values():
            while worker.stdout.readline().strip() != "ready":
                if worker.poll() is not None:
                    raise SystemExit(f"a worker ended with exit code {worker.returncode}")
        for _ in range(options.rounds):
            for side, worker in sides.items():
                worker.stdin.write(f"{options.seconds}\n")
                worker.stdin.flush()
                found[side].append(float(worker.stdout.readline()))
        for worker in sides.values():
            worker.stdin.close()
            worker.wait()
        mine, theirs = (statistics.median(found[side]) for side in ("ours", "release"))
        print(f"| {kind} | {mine:.2f} | {theirs:.2f} | {mine / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
