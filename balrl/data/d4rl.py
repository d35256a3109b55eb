"""Reading D4RL's HDF5 layout (arXiv 2004.07219), with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError

REQUIRED = ("observations", "actions", "rewards", "terminals")
DEFAULT_LIMIT = 1000


def read_hdf5(path: Path, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the top-level arrays of an HDF5 file and its attributes as strings.

    Args:
        path: the file.
        mapped: leave arrays that are neither compressed nor chunked in the file, and map them from there.

    Raises:
        UserError: when the file is missing, is no HDF5 file, is truncated, or lacks a required array.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"no dataset file at '{path}'; give the path of a D4RL HDF5 file")
    if not h5py.is_hdf5(path):
        raise UserError(f"'{path}' is not an HDF5 file (its first bytes say otherwise); expected the D4RL layout")
    try:
        with h5py.File(path, "r") as file:
            found = {key: item for key, item in file.items() if isinstance(item, h5py.Dataset)}
            arrays = {key: _mapped(path, item) if mapped else item[()] for key, item in found.items()}
            attributes = {key: str(value) for key, value in file.attrs.items()}
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"'{path}' cannot be read ({reason}); it is probably truncated: copy or download it again"
        ) from error
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise UserError(f"'{path}' lacks {missing}, expected the D4RL layout; it has {sorted(arrays)}")
    return arrays, attributes


def load_d4rl(path: str | Path, max_episode_steps: int | None = None, mapped: bool = False) -> Dataset:
    """Read a D4RL HDF5 file.

    With ``next_observations`` every row is kept. Without, ``next_observations[t] = observations[t + 1]`` inside an
    episode; each episode's last transition is dropped unless it terminated (its successor was not stored), the row
    before it becoming the truncated one, and so is the file's last row. Files without ``timeouts`` are cut at
    `max_episode_steps`.

    D4RL's own ``qlearning_dataset`` also drops timeout rows whose successor *is* stored; this reader keeps them.

    Args:
        path: the file.
        max_episode_steps: the environment's step limit, used only by files without ``timeouts``; 1000 if not given.
        mapped: map large arrays from the file where that is possible (neither compressed nor chunked, float32).
    """
    path = Path(path)
    arrays, attributes = read_hdf5(path, mapped)
    rows = arrays["rewards"].size
    for key in (*REQUIRED, "timeouts", "next_observations"):
        if key not in arrays:
            continue
        shape, kind = arrays[key].shape, arrays[key].dtype.kind
        if not shape or shape[0] != rows or (key in ("terminals", "timeouts") and arrays[key].size != rows):
            raise UserError(f"'{path}': {key} has shape {shape}, rewards has {rows} values; they must agree")
        if kind not in "biuf":
            raise UserError(f"'{path}': {key} holds {arrays[key].dtype}, expected numbers")
    if rows == 0:
        raise UserError(f"'{path}' is empty: expected at least one transition")
    notes = []
    floats = {
        key: np.ascontiguousarray(arrays[key], np.float32)
        for key in ("observations", "actions", "rewards", "next_observations")
        if key in arrays
    }
    floats["rewards"] = floats["rewards"].reshape(rows)
    terminated = arrays["terminals"].astype(bool).reshape(rows)
    if "timeouts" in arrays:
        truncated = arrays["timeouts"].astype(bool).reshape(rows)
    else:
        limit = max_episode_steps or DEFAULT_LIMIT
        truncated = _timeouts_from_limit(terminated, limit)
        notes.append(f"no timeouts in the file: episodes cut at {limit} steps")
    keep = np.ones(rows, bool)
    if "next_observations" not in floats:
        observations = floats["observations"]
        floats["next_observations"] = np.concatenate([observations[1:], observations[-1:]])
        cut = truncated & ~terminated
        cut[-1] = True
        keep = ~cut
        truncated[:-1] |= cut[1:] & ~(terminated | truncated)[:-1]
        notes.append(f"no next_observations in the file: {int(cut.sum())} rows without a stored successor dropped")
        if not keep.any():
            raise UserError(f"'{path}': no transition has a stored successor; add next_observations to the file")
    data = floats
    if not keep.all():
        data = {key: value[keep] for key, value in floats.items()}
        terminated, truncated = terminated[keep], truncated[keep]
    if not (terminated[-1] or truncated[-1]):
        truncated[-1] = True
        if keep.all():
            notes.append("the last row ended no episode: marked truncated")
    return Dataset(
        **data,
        terminated=terminated,
        truncated=truncated,
        name=attributes.get("dataset_name", path.stem),
        env_id=attributes.get("env_id"),
        rewards_from=attributes.get("rewards_from"),
        notes=tuple(notes),
    )


def _mapped(path: Path, item: Any) -> Array:
    offset = item.id.get_offset()
    if offset is None or item.dtype.hasobject or item.ndim == 0:
        return np.asarray(item[()])
    return np.memmap(path, item.dtype, "r", offset, item.shape)


def _timeouts_from_limit(terminated: Array, limit: int) -> Array:
    """Mark every step that is the `limit`-th of its episode."""
    truncated = np.zeros(len(terminated), bool)
    length = 0
    for t, ended in enumerate(terminated):
        length += 1
        truncated[t] = length == limit
        if ended or truncated[t]:
            length = 0
    return truncated
