"""OGBench's files: those that its own functions read as we do, and those that nobody can read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balrl.data.ogbench import AT_STATE, NO_REWARDS, load_npz, load_ogbench
from balrl.errors import UserError
from balrl.run.registry import load_dataset, task_of_dataset

LENGTHS = (4, 1, 6)
"""Transitions of the trajectories; each has one state more."""


def arrays(width: int = 2) -> dict[str, np.ndarray[Any, Any]]:
    """What OGBench's scripts write: the last state of each trajectory is a row of its own."""
    rows = sum(LENGTHS) + len(LENGTHS)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum([n + 1 for n in LENGTHS]) - 1] = True
    states = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return {
        "observations": states,
        "actions": np.linspace(-1, 1, rows * width, dtype=np.float32).reshape(rows, width),
        "terminals": terminals,
        "qpos": states.astype(np.float64),
        "qvel": np.zeros((rows, width)),
    }


def written(folder: Path, name: str = "some-v0", **columns: Any) -> Path:
    np.savez_compressed(folder / f"{name}.npz", **{**arrays(), **columns})
    return folder / f"{name}.npz"


def test_rows_are_transitions_within_trajectories(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = load_dataset(path)
    assert data.episode_lengths.tolist() == list(LENGTHS)
    np.testing.assert_array_equal(data.next_observations - data.observations, 2)  # states are counted through
    assert not data.terminated.any()
    assert data.truncated.sum() == 3
    assert not data.rewards.any()
    assert NO_REWARDS in data.notes
    assert task_of_dataset(str(path)) is None


def test_masks_terminate_and_rewards_are_kept(tmp_path: Path) -> None:
    masks, rewards = np.ones(14), np.arange(14.0)
    masks[2] = masks[3] = 0  # the fourth is a trajectory's last transition
    data = load_npz(written(tmp_path, masks=masks, rewards=rewards))
    assert np.flatnonzero(data.terminated).tolist() == [2, 3]
    assert np.flatnonzero(data.truncated).tolist() == [4, 10]
    assert data.rewards.tolist() == [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12]
    assert AT_STATE in data.notes


def test_a_file_cut_short_ends_where_it_ends(tmp_path: Path) -> None:
    cut = {key: values[:11] for key, values in arrays().items()}
    assert load_npz(written(tmp_path, **cut)).episode_lengths.tolist() == [4, 1, 3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"observations": np.zeros((14, 8, 8, 3), np.uint8)}, "images are not supported"),
        ({"actions": np.zeros((3, 2))}, "actions has shape"),
        ({"terminals": np.ones(14)}, "has no transition"),
        ({"observations": np.array([None] * 14)}, "cannot be read as npz"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_npz(written(tmp_path, **columns))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset file"):
        load_npz(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(UserError, match="cannot be read as npz"):
        load_npz(tmp_path / "text.npz")
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read as npz"):
        load_npz(path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"lacks \['observations', 'actions', 'terminals'\]"):
        load_npz(tmp_path / "other.npz")


def test_the_package_reads_the_same(tmp_path: Path) -> None:
    utils = pytest.importorskip("ogbench.utils", reason="needs ogbench")
    path = written(tmp_path)
    theirs, ours = utils.load_dataset(str(path)), load_npz(path)
    for key in ("observations", "actions", "next_observations"):
        np.testing.assert_array_equal(getattr(ours, key), theirs[key])
    np.testing.assert_array_equal(ours.truncated, theirs["terminals"] == 1)


def test_one_task_is_labelled_as_the_package_labels_it(tmp_path: Path) -> None:
    ogbench = pytest.importorskip("ogbench", reason="needs ogbench")
    name = "pointmaze-medium-navigate-singletask-task2-v0"
    env = ogbench.make_env_and_datasets(name, env_only=True)
    env.reset()
    positions = np.random.default_rng(0).uniform(0, 20, (14, 2))
    positions[[1, 8, 11]] = env.unwrapped.cur_goal_xy
    path = written(tmp_path, "pointmaze-medium-navigate-v0", qpos=positions)
    written(tmp_path, "pointmaze-medium-navigate-v0-val", qpos=positions)
    _, theirs, _ = ogbench.make_env_and_datasets(name, dataset_path=str(path))
    ours = load_ogbench(name, tmp_path)
    np.testing.assert_array_equal(ours.rewards, theirs["rewards"])
    np.testing.assert_array_equal(ours.terminated, theirs["masks"] == 0)
    assert ours.terminated.sum() == 3
    assert ours.env_id == "pointmaze-medium-singletask-task2-v0"


def test_names_that_there_are_not(tmp_path: Path) -> None:
    pytest.importorskip("ogbench", reason="needs ogbench")
    with pytest.raises(UserError, match="ogbench has no task for"):
        load_ogbench("cube-sngle-play-singletask-v0", tmp_path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(UserError, match="pip install ogbench"):
        load_dataset("ogbench:cube-single-play-singletask-v0")
