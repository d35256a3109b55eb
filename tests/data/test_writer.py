from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from balrl.data.d4rl import load_d4rl
from balrl.data.writer import EpisodeWriter, relabel, save_d4rl
from balrl.errors import UserError
from tests.conftest import make_dataset


def test_a_dataset_round_trips(tmp_path: Path) -> None:
    data = make_dataset()
    save_d4rl(data, tmp_path / "a.hdf5")
    found = load_d4rl(tmp_path / "a.hdf5")
    assert found.fingerprint() == data.fingerprint()
    assert found.name == "toy"


def episode(start: int, length: int) -> dict[str, np.ndarray]:
    return {"rewards": np.arange(start, start + length, dtype=np.float32), "infos/success": np.ones(length, bool)}


def test_a_recording_goes_on_after_the_last_whole_episode(tmp_path: Path) -> None:
    path, settings = tmp_path / "a.hdf5", {"seed": 3}
    writer = EpisodeWriter(path, settings)
    writer.add(episode(0, 4))
    writer.add(episode(4, 2))
    writer.close()
    with writer.partial.open("r+b") as file:
        file.truncate(writer.partial.stat().st_size - 5)  # a crash in the middle of the second episode
    assert not path.exists()
    writer = EpisodeWriter(path, settings)
    assert (writer.rows, writer.episodes) == (4, 1)
    writer.add(episode(4, 3))
    writer.finish({"env_id": "X"})
    with h5py.File(path) as file:
        assert file["rewards"][()].tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert file["infos/success"].shape == (7,)
        assert file.attrs["env_id"] == "X"
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(UserError, match="exists already"):
        EpisodeWriter(path, settings)


def test_a_full_disk_keeps_whole_episodes_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """In a process of its own, which may write files of at most 20 kB: what a full disk does, without one."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from balrl.data.writer import EpisodeWriter
writer = EpisodeWriter(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    for _ in range(9):
        writer.add({"rewards": np.arange(1_000.0)})
except Exception as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.add({"rewards": np.arange(2_000.0)})
writer.finish({})
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.hdf5")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "UserError cannot write" in done.stdout
    assert "its 2 whole episodes (2,000 transitions) are kept: make room, and the same command goes on" in done.stdout
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["rewards"].shape == (4_000,)
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


def test_a_full_disk_leaves_no_half_a_dataset(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from balrl.data.writer import write_hdf5
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_hdf5(Path(sys.argv[1]), {"rewards": np.random.default_rng(0).normal(size=9_000)}, {})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.hdf5")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("UserError cannot write")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "a.hdf5.partial").write_bytes(b"something that somebody needs")
    with pytest.raises(UserError, match="is no recording of this balrl; remove it"):
        EpisodeWriter(tmp_path / "a.hdf5", {})
    assert (tmp_path / "a.hdf5.partial").read_bytes() == b"something that somebody needs"


def test_a_recording_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path / "a.hdf5", {"seed": 3}).close()
    with pytest.raises(UserError, match=r'was begun with \{"seed": 3\}, you ask for \{"seed": 4\}'):
        EpisodeWriter(tmp_path / "a.hdf5", {"seed": 4})
    with pytest.raises(UserError, match="there is no folder"):
        EpisodeWriter(tmp_path / "none" / "a.hdf5", {})


def test_relabel_keeps_everything_but_the_rewards(tmp_path: Path) -> None:
    save_d4rl(make_dataset(), tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["infos/goal_achieved"] = np.arange(9) == 2
    assert relabel(tmp_path / "a.hdf5", tmp_path / "b.hdf5", "infos/goal_achieved", 10.0, -0.1) == 1
    old, new = load_d4rl(tmp_path / "a.hdf5"), load_d4rl(tmp_path / "b.hdf5")
    np.testing.assert_allclose(new.rewards, np.where(np.arange(9) == 2, 10.0, -0.1), rtol=1e-6)
    assert np.array_equal(old.observations, new.observations)
    assert np.array_equal(old.terminated, new.terminated)
    with pytest.raises(UserError, match=r"no array 'infos/x'; it has \['infos/goal_achieved'\]"):
        relabel(tmp_path / "a.hdf5", tmp_path / "c.hdf5", "infos/x", 1, 0)
    with pytest.raises(UserError, match="exists already"):
        relabel(tmp_path / "a.hdf5", tmp_path / "b.hdf5", "infos/goal_achieved", 1, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hdf5", "b.hdf5"]
