"""Reading D4RL's HDF5 layout (arXiv 2004.07219), with h5py alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError, first_line
from balrl.memory import check_fits

REQUIRED = ("observations", "actions", "rewards", "terminals")


def read_hdf5(path: str | Path, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the top-level arrays of an HDF5 file and its attributes as strings.

    Args:
        path: the file.
        mapped: leave arrays that are neither compressed nor chunked in the file, and map them from there.

    Raises:
        UserError: when the file is missing, is no HDF5 file, is truncated, or lacks a required array.
    """
    path = Path(path)
    with opened(path) as file:
        import h5py

        found = {key: item for key, item in file.items() if isinstance(item, h5py.Dataset)}
        if not mapped:
            needed = sum(2 * item.size * max(item.dtype.itemsize, 4) for item in found.values())
            check_fits(needed, f"reading '{path}'", "train with data.disk=FOLDER, or cut the file")
        arrays = {key: _mapped(path, item) if mapped else item[()] for key, item in found.items()}
        attributes = {key: str(value) for key, value in file.attrs.items()}
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise UserError(f"'{path}' lacks {missing}, expected the D4RL layout; it has {sorted(arrays)}")
    return arrays, attributes


def read_attributes(path: str | Path) -> dict[str, str]:
    """Return an HDF5 file's attributes as strings.

    Raises:
        UserError: when the file is missing or no HDF5 file.
    """
    with opened(Path(path)) as file:
        return {key: str(value) for key, value in file.attrs.items()}


def load_d4rl(path: str | Path, max_episode_steps: int | None = None, mapped: bool = False) -> Dataset:
    """Read a D4RL HDF5 file; what may be missing in it, and what is made of that, stands at `Dataset.from_arrays`.

    D4RL's own ``qlearning_dataset`` also drops timeout rows whose successor *is* stored; this reader keeps them.

    Args:
        path: the file.
        max_episode_steps: the environment's step limit, used only by files without ``timeouts``.
        mapped: map large arrays from the file where that is possible (neither compressed nor chunked, float32).

    Raises:
        UserError: when the file is no such file, or its arrays do not fit together.
    """
    path = Path(path)
    arrays, attributes = read_hdf5(path, mapped)
    return Dataset.from_arrays(
        arrays,
        attributes.get("dataset_name", path.stem),
        attributes.get("env_id"),
        max_episode_steps,
        attributes.get("rewards_from"),
    )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    import h5py

    if not path.is_file():
        raise UserError(f"no dataset file at '{path}'; give the path of a D4RL HDF5 file")
    if not h5py.is_hdf5(path):
        raise UserError(f"'{path}' is not an HDF5 file (its first bytes say otherwise); expected the D4RL layout")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise UserError(
            f"'{path}' cannot be read ({reason}); it is probably truncated: copy or download it again"
        ) from error


def _mapped(path: Path, item: Any) -> Array:
    offset = item.id.get_offset()
    if offset is None or item.dtype.hasobject or item.ndim == 0:
        return np.asarray(item[()])
    return np.memmap(path, item.dtype, "r", offset, item.shape)
