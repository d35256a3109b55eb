"""What sweeps and remote worlds cost: overhead a run, steps a second, recovery after kills.

    python scripts/bench_scale.py [--parts executors worlds recovery folder] [--full]

Slurm is measured where its programs are installed (apt-get install slurm-wlm munge) and this is root. What is measured
is kept, a line per cell, in docs/results/scale/cells.jsonl and not measured again; tables go to docs/results/scale.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import yaml
from check_slurm import start_slurm
from study_jobs import add_line, read_lines, write_between_marks

import balrl
from balrl.agents import SAC, SACConfig
from balrl.envs.ahead import AheadCollector
from balrl.envs.gymnasium_env import side_by_side
from balrl.envs.remote import RemoteVectorEnv
from balrl.rollout import Collector
from balrl.settings import validate
from balrl.sweep.folder import SweepFolder, begin_sweep
from balrl.sweep.local import LocalWorkers
from balrl.sweep.on_ray import RayTasks
from balrl.sweep.on_slurm import SlurmJobs
from balrl.sweep.spec import SweepConfig

HERE = Path(__file__).resolve().parent
CELLS = HERE.parent / "docs" / "results" / "scale" / "cells.jsonl"
PARTS = ("executors", "worlds", "ahead", "recovery", "folder")


def main() -> None:
    protocol = yaml.safe_load((HERE / "bench_scale.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="balrl-scale-"))
    CELLS.parent.mkdir(exist_ok=True)
    try:
        if "executors" in options.parts:
            measure_executors(protocol, folder, protocol["full_runs" if options.full else "runs"])
        if "worlds" in options.parts:
            measure_worlds(protocol["worlds"])
        if "ahead" in options.parts:
            measure_ahead(protocol["ahead"])
        if "recovery" in options.parts:
            measure_recovery(protocol, folder)
        if "folder" in options.parts:
            measure_folder(protocol, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report()


def measure_executors(protocol: dict[str, Any], folder: Path, runs: dict[str, int]) -> None:
    keep({"part": "executors", "executor": "alone", "workers": 1, "runs": 1}, lambda: alone(protocol, folder))
    for executor, count in runs.items():
        if executor == "slurm" and (os.getuid() != 0 or not shutil.which("slurmctld", path="/usr/sbin:/sbin")):
            continue
        for workers in protocol["workers"]:
            cell = {"part": "executors", "executor": executor, "workers": workers, "runs": count}
            keep(cell, lambda e=executor, w=workers, n=count: swept(protocol, folder / f"{e}-{w}", e, w, n))


def alone(protocol: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return the median seconds of one run after another in this process."""
    sweep = small_sweep(protocol, folder / "alone", protocol["alone"] + 1)
    seconds = []
    for name, planned in sweep.plan.items():
        begun = time.perf_counter()
        balrl.run_or_resume(sweep.run_dir(name), planned.config)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": round(median(seconds[1:]), 3)}


def swept(protocol: dict[str, Any], path: Path, executor: str, workers: int, count: int) -> dict[str, float]:
    """Return the seconds of a whole sweep."""
    folder = small_sweep(protocol, path, count)
    servers: list[Any] = []
    if executor == "slurm":
        slurm = Path(tempfile.mkdtemp(prefix="balrl-slurm-"))
        servers = start_slurm(slurm)
    try:
        begun = time.perf_counter()
        if executor == "local":
            work: Any = LocalWorkers(folder, workers)
        elif executor == "ray":
            work = RayTasks(folder, jobs=workers, cpus=0.5)
        else:
            work = SlurmJobs(folder, jobs=workers)
        assert work.run(lambda: None)
        seconds = time.perf_counter() - begun
    finally:
        for server in reversed(servers):
            server.terminate()
            server.wait()
    assert all(folder.is_finished(name) for name in folder.plan)
    return {"seconds": round(seconds, 1)}


def small_sweep(protocol: dict[str, Any], path: Path, count: int, **settings: Any) -> SweepFolder:
    given = {**protocol["sweep"], "seeds": f"0:{count}"}
    given["settings"] = {**given["settings"], **settings}
    return begin_sweep(path, validate(SweepConfig, given, "the protocol"), given)


class Sleeping(gym.Env[Any, Any]):
    """A simulator that takes its time, and no core."""

    observation_space = gym.spaces.Box(-1, 1, (17,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (6,), np.float32)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(17), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        return np.zeros(17), 0.0, False, False, {}


def measure_worlds(c: dict[str, Any]) -> None:
    """Steps a second of 8 sleeping worlds, a policy of two layers acting."""
    network = torch.nn.Sequential(torch.nn.Linear(17, 256), torch.nn.ReLU(), torch.nn.Linear(256, 6), torch.nn.Tanh())
    for milliseconds in c["milliseconds"]:

        def make(count: int, seconds: float = milliseconds / 1_000) -> Any:
            return side_by_side([Sleeping(seconds) for _ in range(count)], 1_000)

        def measured(actors: int, make: Any = make) -> dict[str, float]:
            env = RemoteVectorEnv(make, c["count"], actors, cpus=0.25) if actors else make(c["count"])
            collector = Collector(env, "cpu", seed=0)
            with torch.no_grad():
                collector.step(network)
                steps, begun = 0, time.perf_counter()
                while time.perf_counter() - begun < c["seconds"]:
                    collector.step(network)
                    steps += c["count"]
                rate = steps / (time.perf_counter() - begun)
            env.close()
            return {"rate": round(rate, 1)}

        for actors in (0, *c["actors"]):
            keep({"part": "worlds", "milliseconds": milliseconds, "actors": actors}, lambda a=actors, m=measured: m(a))


def measure_ahead(c: dict[str, Any]) -> None:
    """Vector steps a second beside a learner that sleeps, with the newest policy and with older ones."""

    def make(count: int) -> Any:
        return side_by_side([Sleeping(c["milliseconds"] / 1_000) for _ in range(count)], 1_000)

    def measured(stale: int) -> dict[str, float]:
        env = RemoteVectorEnv(make, c["count"], c["actors"], cpus=0.25)
        agent = SAC(Sleeping.observation_space, Sleeping.action_space, SACConfig())
        collector = AheadCollector(env, "cpu", 0, stale) if stale else Collector(env, "cpu", seed=0)
        collector.step(agent.explore)
        collector.pop_ended()
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < c["seconds"]:
            collector.step(agent.explore)
            time.sleep(c["learning"] / 1_000)
            steps += 1
        rate = steps / (time.perf_counter() - begun)
        age = getattr(collector, "_ages", 0.0) / max(1, getattr(collector, "_counted", 1))
        env.close()
        return {"rate": round(rate, 1), "age": round(age, 2)}

    for stale in c["stale"]:
        keep({"part": "ahead", "stale": stale}, lambda s=stale: measured(s))


def measure_recovery(protocol: dict[str, Any], folder: Path) -> None:
    """Seconds from the kill of a local worker until its run's metrics go on."""
    long = {"pretrain.updates": 1_000_000, "pretrain.eval_every": 1_000_000, "checkpoint.every": 200}
    for turn in range(protocol["recovery"]):
        keep({"part": "recovery", "turn": turn}, lambda t=turn: recovered(protocol, folder / f"recovery-{t}", long))


def recovered(protocol: dict[str, Any], path: Path, settings: dict[str, Any]) -> dict[str, float]:
    folder = small_sweep(protocol, path, 1, **settings, **{"tracking.log_every": 50})
    [name] = folder.plan
    metrics = folder.run_dir(name) / "metrics.jsonl"
    found: dict[str, float] = {}

    def look() -> None:
        steps = len(metrics.read_text().splitlines()) if metrics.exists() else 0
        if "killed" not in found and steps > 20:
            os.kill(int(folder.standing(name).holder.split()[1]), signal.SIGKILL)
            found.update(killed=time.perf_counter(), at=metrics.stat().st_mtime_ns)
        elif "killed" in found and metrics.stat().st_mtime_ns > found["at"] and folder.standing(name).holder:
            found["seconds"] = round(time.perf_counter() - found["killed"], 1)
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        LocalWorkers(folder, 1).run(look)
    return {"seconds": found["seconds"]}


def measure_folder(protocol: dict[str, Any], folder: Path) -> None:
    for count in protocol["folder"]:

        def looked(finished: bool, count: int = count) -> dict[str, float]:
            begun = time.perf_counter()
            sweep = small_sweep(protocol, folder / f"folder-{count}", count)
            planned = time.perf_counter() - begun
            for name in sweep.plan if finished else ():
                sweep.run_dir(name).mkdir(parents=True, exist_ok=True)
                (sweep.run_dir(name) / "summary.json").write_text('{"finished": true}')
            begun = time.perf_counter()
            sweep.standings()
            return {"planned": round(planned, 2), "seconds": round(time.perf_counter() - begun, 3)}

        for finished in (False, True):
            keep({"part": "folder", "runs": count, "finished": finished}, lambda f=finished, look=looked: look(f))


def keep(cell: dict[str, Any], measure: Callable[[], dict[str, float]]) -> None:
    """Measure a cell if that is not done, and keep it."""
    if any(all(found.get(key) == value for key, value in cell.items()) for found in read_lines(CELLS)):
        return
    record = {**cell, **measure()}
    add_line(CELLS, record)
    print(record, flush=True)


def report() -> None:
    """Write the tables."""
    found = read_lines(CELLS)
    page = CELLS.parent.parent / "scale.md"
    alone_seconds = next((c["seconds"] for c in found if c.get("executor") == "alone"), None)
    lines = ["| executor | workers | runs | seconds | seconds a run and worker | efficiency |", "| --- " * 6 + "|"]
    for c in sorted((c for c in found if c["part"] == "executors"), key=lambda c: (c["executor"], c["workers"])):
        each = c["seconds"] * c["workers"] / c["runs"]
        share = f"{alone_seconds / each:.0%}" if alone_seconds else ""
        lines.append(f"| {c['executor']} | {c['workers']} | {c['runs']} | {c['seconds']} | {each:.2f} | {share} |")
    write_between_marks(page, lines, "executors")
    worlds = [c for c in found if c["part"] == "worlds"]
    actors = sorted({c["actors"] for c in worlds})
    lines = ["| a step takes | " + " | ".join(f"{a} actor{'s' * (a > 1)}" if a else "here" for a in actors) + " |"]
    lines.append("| --- " * (len(actors) + 1) + "|")
    for milliseconds in sorted({c["milliseconds"] for c in worlds}):
        rates = {c["actors"]: c["rate"] for c in worlds if c["milliseconds"] == milliseconds}
        lines.append(f"| {milliseconds} ms | " + " | ".join(f"{rates[a]:,.0f}" for a in actors) + " |")
    write_between_marks(page, lines, "worlds")
    lines = ["| runs | planning | a look, none begun | a look, all finished |", "| --- | --- | --- | --- |"]
    for count in sorted({c["runs"] for c in found if c["part"] == "folder"}):
        none, all_done = (
            next(c for c in found if c["part"] == "folder" and c["runs"] == count and c["finished"] is f)
            for f in (False, True)
        )
        lines.append(f"| {count:,} | {none['planned']} s | {none['seconds']} s | {all_done['seconds']} s |")
    write_between_marks(page, lines, "folder")
    lines = ["| stale | vector steps a second | mean age of the policy, steps |", "| --- | --- | --- |"]
    lines += [f"| {c['stale']} | {c['rate']} | {c['age']} |" for c in found if c["part"] == "ahead"]
    write_between_marks(page, lines, "ahead")
    seconds = [c["seconds"] for c in found if c["part"] == "recovery"]
    write_between_marks(page, [f"{', '.join(f'{s:.1f}' for s in seconds)} s."], "recovery")


if __name__ == "__main__":
    main()
