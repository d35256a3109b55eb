"""robomimic's files. ``robomimic/sparse.hdf5`` and ``dense.hdf5`` were written by its own script convert_d4rl.py.

Two demonstrations of four rows, observations counted through; the first ends by its task, the second by a time limit,
whose successor the script does not write. (What lies behind the last end the script leaves out.)
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from balrl.data.robomimic import is_robomimic, load_robomimic
from balrl.errors import UserError
from balrl.run.registry import load_dataset

FOLDER = Path(__file__).parent / "robomimic"


def written(path: Path, **images: tuple[int, ...]) -> Path:
    """A file with named observations and none that follow, of demonstrations out of order."""
    with h5py.File(path, "w") as file:
        for number, length in ((10, 2), (2, 3)):
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/object"] = np.full((length, 2), number, np.float64)
            demo["obs/eef"] = np.arange(length, dtype=np.float64)[:, None]
            for name, shape in images.items():
                demo[f"obs/{name}"] = np.zeros((length, *shape), np.uint8)
            demo["actions"] = np.zeros((length, 1))
            demo["rewards"] = np.array([0.0] * (length - 1) + [float(number == 2)])
            demo["dones"] = np.ones(length)
    return path


def test_success_terminates_and_what_has_no_successor_is_left_out() -> None:
    data = load_dataset(FOLDER / "sparse.hdf5")
    assert data.env_id == "hopper-tiny-v0"
    assert data.observations[:, 0].tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert np.flatnonzero(data.terminated).tolist() == [3]
    assert np.flatnonzero(data.truncated).tolist() == [6]
    assert data.next_observations[[0, 1, 2, 4, 5, 6], 0].tolist() == [3, 6, 9, 15, 18, 21]
    assert data.rewards.tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_ends_with_dense_rewards_are_cuts() -> None:
    data = load_dataset(FOLDER / "dense.hdf5")
    assert not data.terminated.any()
    assert np.flatnonzero(data.truncated).tolist() == [2, 5]
    assert any("dense" in note for note in data.notes)


def test_named_observations_are_laid_out_and_pictures_are_left(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", view=(4, 4, 3))
    data = load_robomimic(path)
    assert data.observations.tolist() == [[0, 2, 2], [1, 2, 2], [2, 2, 2], [0, 10, 10]]
    assert data.episode_lengths.tolist() == [3, 1]
    assert np.flatnonzero(data.terminated).tolist() == [2]
    assert data.next_observations[0].tolist() == [1, 2, 2]
    assert load_dataset(path, observation_keys=["object"]).observations.shape == (4, 2)
    assert load_robomimic(path, ["object", "eef"]).observations[1].tolist() == [2, 2, 1]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", view=(4, 4, 3))
    with pytest.raises(UserError, match="no observation 'objects'"):
        load_robomimic(path, ["objects"])
    with pytest.raises(UserError, match=r"'view' has shape \(4, 4, 3\), expected a vector"):
        load_robomimic(path, ["view"])
    with h5py.File(path, "a") as file:
        del file["data/demo_2/obs"]
    with pytest.raises(UserError, match=r"demo_2 lacks .*dataset_states_to_obs"):
        load_robomimic(path)
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["observations"] = np.zeros((2, 2))
    assert not is_robomimic(tmp_path / "flat.hdf5")
    with pytest.raises(UserError, match="has one array of them"):
        load_dataset(tmp_path / "flat.hdf5", observation_keys=["a"])
