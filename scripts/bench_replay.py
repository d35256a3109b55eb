"""Measure what replay and data loading cost: sampling, adding, reading a file, and sampling from a disk.

    python scripts/bench_replay.py [--rows 1000000] [--disk-rows N] [--folder DIR] [--out FILE]

Sizes: 17 observations, 6 actions, batches of 256, one thread. The disk part maps N packed rows of 168 bytes from a file
in DIR and trains IQL (2 × 256, as written) from there, with and without reading ahead, in turns with a million rows in
memory. Make N larger than memory: a smaller file stays in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import torch

from balrl.agents import IQL, IQLConfig
from balrl.batch import Batch
from balrl.data.d4rl import load_d4rl
from balrl.data.prepare import RewardTransform, to_replay
from balrl.disk import Prefetcher, mapped_storage
from balrl.execution.tracing import trace
from balrl.random_stream import RandomStream, random_words
from balrl.replay import ReplayBuffer

OBSERVATION_DIM, ACTION_DIM, BATCH = 17, 6, 256


def microseconds(call: Callable[[], object], calls: int = 2000, turns: int = 7) -> dict[str, float]:
    """Return median and range over turns of what a call takes."""
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls * 1e6)
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def filled(buffer: ReplayBuffer) -> ReplayBuffer:
    buffer.storage.normal_()
    buffer._resize(buffer.capacity)
    return buffer


def in_memory(rows: int) -> dict[str, dict[str, float]]:
    buffer, stream = filled(ReplayBuffer(rows, OBSERVATION_DIM, ACTION_DIM)), RandomStream(0)
    new = Batch(
        torch.randn(64, OBSERVATION_DIM),
        torch.rand(64, ACTION_DIM),
        torch.randn(64),
        torch.randn(64, OBSERVATION_DIM),
        torch.rand(64) < 0.1,
    )

    def columns() -> dict[str, torch.Tensor]:
        return {key: value for key, value in buffer.sample(BATCH, 1, stream)._asdict().items() if value is not None}

    traced = trace(columns)
    with torch._inductor.config.patch(cpp_wrapper=True):
        compiled = torch._dynamo.lookup_backend("inductor")(traced.graph, traced.inputs)
        with torch.no_grad():
            compiled(*traced.inputs)
            return {
                "the gather alone, rows drawn beforehand": _gather_alone(buffer),
                "sample, as written": microseconds(lambda: buffer.sample(BATCH, 1, stream)),
                "sample, compiled": microseconds(lambda: compiled(*traced.inputs)),
                "of which random words, as written": microseconds(
                    lambda: random_words(stream.key, stream.position, BATCH)
                ),
                "add 64 rows": microseconds(lambda: buffer.add(new)),
            }


def _gather_alone(buffer: ReplayBuffer) -> dict[str, float]:
    drawn = iter(torch.randint(buffer.capacity, (7 * 2000, BATCH)).unbind())
    return microseconds(lambda: buffer.storage.index_select(0, next(drawn)))


def loading(rows: int, folder: Path) -> dict[str, float]:
    """Return megabytes a second of reading an uncompressed file of the system's cache, as a dataset and into replay."""
    random = np.random.default_rng(0)
    path = folder / "balrl-bench.hdf5"
    with h5py.File(path, "w") as file:
        for name, width in (("observations", 17), ("next_observations", 17), ("actions", 6)):
            file[name] = random.uniform(-1, 1, (rows, width)).astype(np.float32)
        file["rewards"] = random.standard_normal(rows).astype(np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 1000 == 999
    size, read, whole = path.stat().st_size / 1e6, [], []
    for _ in range(5):
        start = time.perf_counter()
        data = load_d4rl(path)
        read.append(size / (time.perf_counter() - start))
        to_replay(data, RewardTransform())
        whole.append(size / (time.perf_counter() - start))
    path.unlink()
    return {
        "file, MB": size,
        "read, MB/s": statistics.median(read),
        "slowest, MB/s": min(read),
        "with packing, MB/s": statistics.median(whole),
    }


def from_disk(rows: int, disk_rows: int, folder: Path, updates: int = 100, turns: int = 5) -> dict[str, object]:
    torch.manual_seed(0)
    spaces = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,)), gym.spaces.Box(-1, 1, (ACTION_DIM,))
    memory = filled(ReplayBuffer(rows, OBSERVATION_DIM, ACTION_DIM))
    disk = ReplayBuffer(disk_rows, OBSERVATION_DIM, ACTION_DIM, allocate=lambda *shape: mapped_storage(*shape, folder))
    for first in range(0, disk_rows, rows):
        part = disk.storage[first : first + rows]
        part.copy_(memory.storage[: len(part)])
    disk._resize(disk_rows)
    found: dict[str, list[float]] = {"memory": [], "disk": [], "disk, read ahead": []}
    for _ in range(turns):
        for name, rates in found.items():
            agent, replay = IQL(*spaces, IQLConfig()), memory if name == "memory" else disk
            prefetcher = Prefetcher(replay, agent.stream) if "ahead" in name else None
            start = time.perf_counter()
            for _ in range(updates):
                if prefetcher is not None:
                    prefetcher.expect(BATCH)
                agent.update(replay.sample(BATCH, 1, agent.stream))
            rates.append(updates / (time.perf_counter() - start))
            if prefetcher is not None:
                prefetcher.close()
    return {
        "file, MB": disk.storage.numel() * 4 / 1e6,
        "updates/s": {
            name: {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}
            for name, rates in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--disk-rows", type=int)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "microseconds": in_memory(options.rows),
        "loading": loading(options.rows, options.folder),
        "disk": from_disk(options.rows, options.disk_rows or options.rows, options.folder),
    }
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
