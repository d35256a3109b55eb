"""Compare balrl's updates with those of other libraries, in turns on one machine, and with what matrix products allow.

    python scripts/bench_updates.py [--kinds iql cql …] [--threads 1 2] [--peer KIND:NAME=COMMAND …] [--out FILE]

Every contestant is a process of its own that makes updates on the same sizes (batch 256, 17 observations, 6 actions,
two hidden layers of 256; 200,000 made-up transitions). They take turns, so that a machine that slows down slows all of
them; rates are medians over the turns, spreads their range, and ratios are of medians.

`sac-online` counts environment steps of HalfCheetah-v5, each with one update, as a training loop takes them.
stable-baselines3's SAC takes part where it is installed. Any other library takes part through a worker: a COMMAND
that prints `READY`, then answers each line `go SECONDS` with `RES updates wall_seconds cpu_seconds`; `{threads}` in it
becomes the number of threads. Peers should run at their best settings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple


class Rate(NamedTuple):
    """Updates per second over the turns."""

    median: float
    low: float
    high: float


class Contestant:
    """A worker process; `turn(seconds)` returns its updates per second.

    Raises:
        RuntimeError: when it ends before it is ready.
    """

    def __init__(self, name: str, command: str, threads: int, cache: str) -> None:
        self.name = name
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else "",
        }
        pin = f"taskset -c 0-{threads - 1} " if sys.platform == "linux" else ""
        start = time.perf_counter()
        self.process = subprocess.Popen(
            pin + command.replace("{threads}", str(threads)),
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | variables,
        )
        self.ready = self._read("READY").split()
        self.startup = time.perf_counter() - start

    def turn(self, seconds: float) -> float:
        _pipe(self.process.stdin).write(f"go {seconds}\n")
        _pipe(self.process.stdin).flush()
        _, updates, wall, _ = self._read("RES").split()
        return int(updates) / float(wall)

    def close(self) -> None:
        _pipe(self.process.stdin).close()
        self.process.wait(30)

    def _read(self, word: str) -> str:
        for line in _pipe(self.process.stdout):
            if line.startswith(word):
                return line
        raise RuntimeError(f"{self.name} ended before it said {word}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def compare(kind: str, threads: int, peers: dict[str, str], rounds: int, seconds: float) -> dict[str, object]:
    """Run balrl as written and compiled, the floor and the peers in turns; return the rates and compile times."""
    with tempfile.TemporaryDirectory() as cache:
        own = f"{sys.executable} {Path(__file__).resolve()} --worker"
        first = Contestant("balrl, first compile", f"{own} {kind} on {threads}", threads, cache)
        first.close()
        commands = {
            "balrl": f"{own} {kind} on {threads}",
            "balrl, as written": f"{own} {kind} off {threads}",
            "floor": f"{own} floor off {threads}",
            **peers,
        }
        contestants, missing = [], []
        for name, command in commands.items():
            try:
                contestants.append(Contestant(name, command, threads, cache))
            except RuntimeError:
                missing.append(name)
        turns: dict[str, list[float]] = {c.name: [] for c in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                turns[contestant.name].append(contestant.turn(seconds))
        for contestant in contestants:
            contestant.close()
        rates = {name: Rate(statistics.median(t), min(t), max(t)) for name, t in turns.items()}
        flops = {c.name: float(c.ready[1]) for c in contestants if c.name in ("balrl", "floor")}
        floor = rates["floor"].median * flops["floor"] / flops["balrl"] if flops["balrl"] else None
        return {
            "kind": kind,
            "threads": threads,
            "rates": {name: rate._asdict() for name, rate in rates.items() if name != "floor"},
            "floor": floor,
            "compile_first": float(first.ready[2]),
            "compile_cached": float(contestants[0].ready[2]),
            "missing": missing,
        }


def work(kind: str, mode: str, threads: int) -> None:
    """Be a contestant: say READY, an update's operations and the seconds of the first call, then take turns."""
    import torch

    torch.set_num_threads(threads)
    chunk = 5
    if kind.startswith("sb3-"):
        run, flops = _stable_baselines3(online=kind == "sb3-sac-online"), 0
    elif kind == "sac-online":
        run, flops = _online(mode), 0
    else:
        from balrl.bench.updates import Floor, Subject

        subject = Floor() if kind == "floor" else Subject(kind, mode)
        run, flops = subject.run, subject.flops()
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    run(20)
    if kind.endswith("-online"):
        chunk = 100
    print("READY", flops, first, flush=True)
    for line in sys.stdin:
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < float(line.split()[1]):
            run(chunk)
            count += chunk
        print("RES", count, time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def _online(mode: str):  # type: ignore[no-untyped-def]
    """Return steps of SAC in HalfCheetah-v5 as `balrl train` takes them: act, step, store, update."""
    from balrl import load_config
    from balrl.run.start_and_resume import prepare_run, start_run
    from balrl.watch.display import Display

    settings = {"warmup.steps": "1000", "finetune.steps": "100000000", "tracking.wandb": "off", "compile": mode}
    folder = Path(tempfile.mkdtemp())
    config = load_config("sac/locomotion", settings=settings)
    trainer = start_run(config, prepare_run(config, folder / "run", Display()), folder / "run")
    trainer._run_phase("warmup")
    trainer._next_phase()
    trainer._enter("finetune")

    def run(count: int) -> None:
        for _ in range(count):
            trainer._finetune_step()

    return run


def _stable_baselines3(online: bool):  # type: ignore[no-untyped-def]
    """Return gradient steps of stable-baselines3's SAC on a full replay buffer, or steps of its own learning loop."""
    import gymnasium as gym
    import numpy as np
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    env = gym.make("HalfCheetah-v5")
    model = SAC("MlpPolicy", env, buffer_size=200_000, device="cpu")
    model.set_logger(Logger(None, []))
    random = np.random.default_rng(0)
    for name in ("observations", "next_observations", "actions", "rewards"):
        array = getattr(model.replay_buffer, name)
        array[:] = np.tanh(random.standard_normal(array.shape, dtype=np.float32))
    model.replay_buffer.full = True
    if online:
        model.learning_starts = 0
        return lambda count: model.learn(count, reset_num_timesteps=False, log_interval=None)
    return lambda count: model.train(gradient_steps=count, batch_size=256)


def table(results: list[dict[str, object]]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| update | threads | implementation | updates/s | spread | balrl is | of the floor |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        rates: dict[str, dict[str, float]] = result["rates"]  # type: ignore[assignment]
        own = rates["balrl"]["median"]
        for name, rate in rates.items():
            ratio = "" if name == "balrl" else f"{own / rate['median']:.2f}×"
            share = f"{rate['median'] / float(str(result['floor'])):.0%}" if result["floor"] else ""
            lines.append(
                f"| {result['kind']} | {result['threads']} | {name} | {rate['median']:.1f} | "
                f"{rate['low']:.1f}–{rate['high']:.1f} | {ratio} | {share} |"
            )
    lines += ["", "| update | threads | first call, nothing cached | first call, cached |", "| --- | --- | --- | --- |"]
    for r in results:
        lines.append(f"| {r['kind']} | {r['threads']} | {r['compile_first']:.0f} s | {r['compile_cached']:.0f} s |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["iql", "famo2o-iql", "sac", "redq-10", "cql", "sac-online"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peer", action="append", default=[], help="KIND:NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each turn")
    parser.add_argument("--out", type=Path, help="also write the results as JSON")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "MODE", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], options.worker[1], int(options.worker[2]))
        return
    peers: dict[str, dict[str, str]] = {"sac": {}, "sac-online": {}}
    try:
        import stable_baselines3

        for kind, others in peers.items():
            others[f"stable-baselines3 {stable_baselines3.__version__}"] = (
                f"{sys.executable} {Path(__file__).resolve()} --worker sb3-{kind} off {{threads}}"
            )
    except ImportError:
        pass
    for text in options.peer:
        target, command = text.split("=", 1)
        kind, name = target.split(":", 1)
        peers.setdefault(kind, {})[name] = command
    import torch

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    results = []
    for kind in options.kinds:
        for threads in options.threads:
            results.append(compare(kind, threads, peers.get(kind, {}), options.rounds, options.seconds))
            print(table(results[-1:]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=2))
    print()
    print(table(results))


if __name__ == "__main__":
    main()
