"""Reading OGBench's npz layout (arXiv 2410.20092), and relabelling it for one task with the package `ogbench`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError, first_line

REQUIRED = ("observations", "actions", "terminals")
STATE = ("qpos", "qvel", "button_states")
"""Columns that tasks are labelled by."""
FOLDER = "~/.ogbench/data"
"""Where the package keeps what it downloads."""
NO_REWARDS = (
    "the file has no rewards, as OGBench's have none: all are 0; for those of one task give --dataset ogbench:NAME, a "
    "NAME such as cube-single-play-singletask-v0"
)
AT_STATE = "a reward is that of the state in which the action is taken, as OGBench labels them, not of the next one"


def load_npz(path: str | Path) -> Dataset:
    """Read a file in OGBench's layout.

    It holds states, one more than transitions in each trajectory; ``terminals`` marks the last, whose action leads
    nowhere and is left out. Trajectories are cut there, they do not terminate: with ``masks`` a row terminates where
    its mask is 0. Without ``rewards`` all are 0, and a note says so.

    Raises:
        UserError: when the file is missing, is no npz file, lacks an array, or they do not fit together.
    """
    path = Path(path)
    return _dataset(_transitions(_arrays(path), str(path)), path.stem, None)


def load_ogbench(name: str, folder: str | Path = FOLDER) -> Dataset:
    """Read the dataset of a name, downloaded by the package `ogbench` unless it is there, with the rewards of one task.

    Args:
        name: such as ``cube-single-play-singletask-v0`` or ``antmaze-large-navigate-singletask-task3-v0``; names
            without ``singletask`` have no rewards.
        folder: of the files.

    Raises:
        UserError: without the package, for an unknown name, or a file that cannot be had or read.
    """
    package = _import()
    words = name.split("-")
    single = "singletask" in words
    stem = "-".join([*words[: words.index("singletask")], words[-1]]) if single else name
    path = Path(folder).expanduser() / f"{stem}.npz"
    try:
        env = package.make_env_and_datasets(name, env_only=True)
    except Exception as error:  # the package answers an unknown name with whatever comes first
        raise UserError(
            f"ogbench has no task for '{name}' ({first_line(error)}); names look like cube-single-play-singletask-v0"
        ) from error
    if not path.is_file():
        try:
            package.download_datasets([stem], str(folder))
        except OSError as error:
            raise UserError(
                f"'{path}' is not there and cannot be downloaded ({first_line(error)}); copy it from elsewhere"
            ) from error
    data = _transitions(_arrays(path), str(path))
    if single:
        from ogbench.relabel_utils import relabel_dataset

        try:
            relabel_dataset(env.spec.id, env, data)
        except KeyError as error:
            raise UserError(f"'{path}' lacks {error}, by which ogbench labels the task") from error
    env.close()
    return _dataset(data, name, env.spec.id)


def _import() -> Any:
    if os.environ.get("DISPLAY") is None:
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import ogbench
    except ImportError as error:
        raise UserError(f"ogbench:NAME needs a package that is not installed: pip install ogbench ({error})") from error
    return ogbench


def _arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise UserError(f"no dataset file at '{path}'")
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in (*REQUIRED, *STATE, "rewards", "masks") if key in file.files}
            found = sorted(file.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' cannot be read as npz ({first_line(error)}): download or write it again") from error
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise UserError(f"'{path}' lacks {missing}, expected OGBench's layout; it has {found}")
    rows = arrays["terminals"].size
    for key, values in arrays.items():
        if values.ndim == 0 or len(values) != rows:
            raise UserError(f"'{path}': {key} has shape {values.shape}, terminals has {rows} values")
    if arrays["observations"].ndim != 2:
        shape = arrays["observations"].shape[1:]
        raise UserError(f"'{path}': an observation has shape {shape}, expected flat ones; images are not supported")
    return arrays


def _transitions(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Return the rows that are transitions, with their successors and the ends of trajectories as ``truncated``."""
    last = arrays["terminals"].reshape(-1).astype(bool)
    last[-1:] = True
    rows = np.flatnonzero(~last)
    if not len(rows):
        raise UserError(f"'{name}' has no transition: every state is the last of its trajectory")
    kept = {key: values[rows] for key, values in arrays.items() if key != "terminals"}
    return {**kept, "next_observations": arrays["observations"][rows + 1], "truncated": last[rows + 1]}


def _dataset(data: Mapping[str, Array], name: str, env_id: str | None) -> Dataset:
    rows = len(data["truncated"])
    has_rewards = "rewards" in data
    terminated = data["masks"].reshape(-1) == 0 if "masks" in data else np.zeros(rows, bool)
    columns = {
        "observations": data["observations"],
        "actions": data["actions"],
        "rewards": data["rewards"].reshape(-1) if has_rewards else np.zeros(rows, np.float32),
        "next_observations": data["next_observations"],
        "terminated": terminated,
        "truncated": data["truncated"] & ~terminated,
    }
    dataset = Dataset.from_arrays(columns, name, env_id)
    return replace(dataset, notes=(*dataset.notes, AT_STATE if has_rewards else NO_REWARDS))
