from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from balrl.data.d4rl import load_d4rl
from balrl.errors import UserError

# Three episodes: 3 steps to a terminal, 2 steps to a timeout, 2 steps that the file's end cuts.
OBSERVATIONS = np.array([[0], [1], [2], [10], [11], [20], [21]], np.float64)
TERMINALS = np.array([0, 0, 1, 0, 0, 0, 0], bool)
TIMEOUTS = np.array([0, 0, 0, 0, 1, 0, 0], bool)


def write(path: Path, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "observations": OBSERVATIONS,
        "next_observations": OBSERVATIONS + 1,
        "actions": np.linspace(-1, 1, 7)[:, None],
        "rewards": np.arange(7.0),
        "terminals": TERMINALS,
        "timeouts": TIMEOUTS,
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                file[key] = value
        file.attrs["env_id"] = "Toy-v0"
    return path


def test_everything_stored(tmp_path: Path) -> None:
    data = load_d4rl(write(tmp_path / "a.hdf5"))
    assert len(data) == 7
    assert data.env_id == "Toy-v0"
    np.testing.assert_array_equal(data.next_observations, OBSERVATIONS + 1)
    assert data.terminated.tolist() == TERMINALS.tolist()
    assert np.flatnonzero(data.truncated).tolist() == [4, 6]
    assert data.observations.dtype == np.float32
    assert "last row" in data.notes[0]


def test_without_next_observations(tmp_path: Path) -> None:
    """The terminal row stays; the timeout's row and the file's last have no stored successor."""
    data = load_d4rl(write(tmp_path / "a.hdf5", next_observations=None))
    assert data.observations[:, 0].tolist() == [0, 1, 2, 10, 20]
    assert data.next_observations[[0, 1, 3, 4], 0].tolist() == [1, 2, 11, 21]
    assert np.flatnonzero(data.terminated).tolist() == [2]
    assert np.flatnonzero(data.truncated).tolist() == [3, 4]
    assert data.episode_lengths.tolist() == [3, 1, 1]
    assert "2 rows" in data.notes[0]


def test_without_timeouts_the_step_limit_cuts(tmp_path: Path) -> None:
    data = load_d4rl(write(tmp_path / "a.hdf5", timeouts=None), max_episode_steps=2)
    assert data.episode_lengths.tolist() == [2, 1, 2, 2]
    assert np.flatnonzero(data.truncated).tolist() == [1, 4, 6]
    assert "cut at 2 steps" in data.notes[0]
    assert load_d4rl(tmp_path / "a.hdf5").episode_lengths.tolist() == [3, 4]


def test_a_terminal_on_the_step_limit_stays_a_terminal(tmp_path: Path) -> None:
    data = load_d4rl(write(tmp_path / "a.hdf5", timeouts=TERMINALS))
    assert data.terminated[2]
    assert data.episode_lengths.tolist() == [3, 4]


def test_neither(tmp_path: Path) -> None:
    data = load_d4rl(write(tmp_path / "a.hdf5", timeouts=None, next_observations=None), max_episode_steps=2)
    assert data.observations[:, 0].tolist() == [0, 2, 10, 20]
    assert data.ends.tolist() == [True] * 4


def test_broken_files_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset file at"):
        load_d4rl(tmp_path / "absent.hdf5")
    text = tmp_path / "text.hdf5"
    text.write_text("observations, actions\n1, 2\n")
    with pytest.raises(UserError, match="not an HDF5 file"):
        load_d4rl(text)
    whole = write(tmp_path / "whole.hdf5", observations=np.zeros((7, 1000)), next_observations=np.zeros((7, 1000)))
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated"):
        load_d4rl(cut)
    with pytest.raises(UserError, match=r"lacks \['terminals'\]"):
        load_d4rl(write(tmp_path / "b.hdf5", terminals=None))
    with pytest.raises(UserError, match=r"actions has shape \(3, 1\)"):
        load_d4rl(write(tmp_path / "c.hdf5", actions=np.zeros((3, 1))))


def test_real_files(shared_data: Path) -> None:
    data = load_d4rl(shared_data / "hopper-mixed-v5.hdf5")
    assert len(data) == 100_211
    assert (int(data.terminated.sum()), int((data.truncated & ~data.terminated).sum())) == (615, 19)
    assert data.episode_returns.max() == pytest.approx(3734.7, abs=0.1)
    door = load_d4rl(shared_data / "adroit-door-human-v1.hdf5")
    assert (len(door), len(door.episode_slices)) == (6_704, 25)
