"""Data on disk gives the same batches as data in memory, and its rows are asked for before they are needed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import balrl
from balrl.cli.main import main
from balrl.data.d4rl import load_d4rl
from balrl.data.prepare import RewardTransform, to_replay
from balrl.disk import AHEAD, Prefetcher, mapped_storage
from balrl.random_stream import RandomStream
from balrl.replay import MixedReplay, ReplayBuffer
from tests.agents.test_all import AGENTS
from tests.conftest import make_dataset, random_batch
from tests.execution.test_updates import build, filled
from tests.run.small import SMALL, final_state


def write_file(path: Path, rows: int = 60, **options: object) -> Path:
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, width in (("observations", 4), ("next_observations", 4), ("actions", 2)):
            values = random.uniform(-1, 1, (rows, width)).astype(np.float32)
            file.create_dataset(name, data=values, **options)
        file["rewards"] = random.standard_normal(rows).astype(np.float32)
        file["terminals"] = np.arange(rows) % 10 == 9
        file["timeouts"] = np.zeros(rows, bool)
    return path


def test_the_same_rows_in_a_file_that_nobody_sees(tmp_path: Path) -> None:
    data = make_dataset()
    in_memory = to_replay(data, RewardTransform(2, 1))
    on_disk = to_replay(data, RewardTransform(2, 1), allocate=lambda *shape: mapped_storage(*shape, tmp_path))
    assert torch.equal(on_disk.storage, in_memory.storage)
    assert list(tmp_path.iterdir()) == []
    streams = RandomStream(3), RandomStream(3)
    for _ in range(3):
        one, other = (b.sample(5, 2, s) for b, s in zip((in_memory, on_disk), streams, strict=True))
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True) if x is not None)


def test_files_are_mapped_where_they_can_be(tmp_path: Path) -> None:
    plain, packed = write_file(tmp_path / "a.hdf5"), write_file(tmp_path / "b.hdf5", compression="gzip")
    for file, is_mapped in ((plain, True), (packed, False)):
        mapped, loaded = load_d4rl(file, mapped=True), load_d4rl(file)
        assert isinstance(mapped.observations.base, np.memmap) is is_mapped
        assert not isinstance(loaded.observations.base, np.memmap)
        assert mapped.fingerprint() == loaded.fingerprint()


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_what_coming_updates_draw_is_known(name: str) -> None:
    """Once what updates draw in turns has come twice, every row was asked for before, by one of the eight before it."""
    agent = build(name)
    buffer = filled(agent)
    prefetcher = Prefetcher(buffer, agent.stream)
    prefetcher.close()  # what it was asked for stays in its queue
    turn = (agent.balance.every if agent.balance else 1) * getattr(agent.config, "policy_every", 1)
    known: set[tuple[int, ...]] = set()
    for update in range(4 * turn + 2):
        prefetcher.expect(16)
        while not prefetcher._wanted.empty():
            known.add(tuple(prefetcher.rows_at(*prefetcher._wanted.get()).tolist()))
        position = int(agent.stream.position)
        agent.update(buffer.sample(16, 1, agent.stream))
        if update > 2 * turn:
            assert tuple(prefetcher.rows_at(position, 16).tolist()) in known
    assert len(known) >= AHEAD


def test_rows_of_mixed_batches_are_found_between_the_online_ones() -> None:
    offline, online = (ReplayBuffer(100, 3, 2) for _ in range(2))
    offline.add(random_batch(100))
    online.add(random_batch(50))
    stream = RandomStream(5)
    prefetcher = Prefetcher(offline, stream)
    batch = MixedReplay(offline, online, 0.25).sample(16, 3, stream)
    for part, offset in zip(batch.split(3), range(0, 48, 16), strict=True):
        expected = offline.gather(prefetcher.rows_at(offset, 4))
        assert torch.equal(part.observations[:4], expected.observations)
    prefetcher.close()


def test_a_new_sequence_starts_guessing_anew() -> None:
    buffer, stream = ReplayBuffer(10, 3, 2), RandomStream(0)
    buffer.add(random_batch(10))
    prefetcher = Prefetcher(buffer, stream)
    for _ in range(3):
        prefetcher.expect(4)
        stream.uniform(20)
    stream.reseed(1)
    prefetcher.expect(4)
    assert prefetcher._asked == 0
    prefetcher.close()


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("calql/point-maze", {"finetune.retain": "ratio", "agent.sampled_actions": "2"}),
        ("qc-fql/point-maze", {"finetune.retain": "append", "agent.chunk_size": "2"}),
        ("qc/point-maze", {"finetune.retain": "ratio", "agent.samples": "2"}),
    ],
)
def test_a_run_from_disk_is_the_run_from_memory(preset: str, settings: dict[str, str], tmp_path: Path) -> None:
    file = write_file(tmp_path / "data.hdf5")
    settings = {**SMALL, "dataset": str(file), **settings}
    settings |= {"data.normalize_observations": "true", "env_kwargs": "{max_episode_steps: 9}"}
    for name, more in (("memory", {}), ("disk", {"data.disk": str(tmp_path)})):
        balrl.train(balrl.load_config(preset, settings={**settings, **more}), tmp_path / name)
    expected, got = final_state(tmp_path / "memory"), final_state(tmp_path / "disk")
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--preset", "iql/point-maze", "--run-dir", str(tmp_path / "run"), "tracking.wandb=off"]
    assert main([*arguments, f"data.disk={tmp_path / 'nowhere'}"]) == 2
    assert "data.disk: cannot make a file of" in capsys.readouterr().err
