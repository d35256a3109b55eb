"""Writing D4RL HDF5 files: whole datasets, and episode after episode with the possibility to stop and go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError, check_target


def save_d4rl(dataset: Dataset, path: Path) -> None:
    """Write a dataset in the D4RL layout, ``timeouts`` and ``next_observations`` included."""
    arrays = {
        "observations": dataset.observations,
        "actions": dataset.actions,
        "rewards": dataset.rewards,
        "next_observations": dataset.next_observations,
        "terminals": dataset.terminated,
        "timeouts": dataset.truncated,
    }
    attributes = {"dataset_name": dataset.name, "env_id": dataset.env_id, "rewards_from": dataset.rewards_from}
    write_hdf5(path, arrays, {key: value for key, value in attributes.items() if value})


def write_hdf5(path: Path, arrays: Mapping[str, Array], attributes: Mapping[str, str]) -> None:
    """Write arrays and attributes to a new file: to a temporary name first, then renamed."""
    import h5py

    temporary = check_target(path).with_name(f".{path.name}.writing")
    with h5py.File(temporary, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, compression="gzip")
        file.attrs.update(attributes)
    os.replace(temporary, path)


class EpisodeWriter:
    """Appends episodes to ``<path>.partial`` and renames it to `path` when it is finished.

    Args:
        path: of the finished file; must not exist.
        settings: what the episodes are made with; a partial file that was begun with other settings is refused.

    Raises:
        UserError: when the file exists, or the partial file was begun with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        import h5py

        if path.exists():
            raise UserError(f"'{path}' exists already; choose another --out, or move it away")
        check_target(path)
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        begun = self.partial.exists()
        try:
            self._file = h5py.File(self.partial, "a")
        except OSError as error:
            raise UserError(f"'{self.partial}' cannot be gone on with ({error}); remove it to begin anew") from error
        wanted = json.dumps(dict(settings), sort_keys=True)
        if begun and self._file.attrs.get("settings") != wanted:
            found = self._file.attrs.get("settings")
            self._file.close()
            raise UserError(f"'{self.partial}' was begun with {found}, you ask for {wanted}; remove it to begin anew")
        self._file.attrs["settings"] = wanted

    @property
    def episodes(self) -> int:
        """How many whole episodes are written."""
        return int(self._file.attrs.get("episodes", 0))

    @property
    def rows(self) -> int:
        """How many transitions of whole episodes are written."""
        return int(self._file.attrs.get("rows", 0))

    def add(self, columns: Mapping[str, Array]) -> None:
        """Append one episode; it counts only when all of it is on the disk."""
        start, count = self.rows, len(columns["rewards"])
        for key, value in columns.items():
            if key not in self._file:
                shape = (start, *value.shape[1:])
                self._file.create_dataset(
                    key, shape, value.dtype, maxshape=(None, *value.shape[1:]), chunks=True, compression="gzip"
                )
            data = self._file[key]
            data.resize(start + count, axis=0)  # what a crash left behind the last whole episode is overwritten
            data[start:] = value
        self._file.attrs["rows"], self._file.attrs["episodes"] = start + count, self.episodes + 1
        self._file.flush()

    def close(self) -> None:
        """Stop here; the partial file can be gone on with."""
        self._file.close()

    def finish(self, attributes: Mapping[str, str]) -> None:
        """Cut the file to its whole episodes, describe it, and give it its name."""
        rows = self.rows
        self._file.visititems(lambda _, item: item.resize(rows, axis=0) if hasattr(item, "resize") else None)
        for key in ("settings", "rows", "episodes"):
            del self._file.attrs[key]
        self._file.attrs.update(attributes)
        self._file.close()
        os.replace(self.partial, self.path)


def relabel(source: Path, target: Path, success: str, reward: float, otherwise: float) -> int:
    """Copy a D4RL file with sparse rewards: `reward` where its array `success` is true, `otherwise` elsewhere.

    Returns:
        how many steps succeeded.

    Raises:
        UserError: when there is no such array, it does not fit, or `target` exists.
    """
    import h5py

    if target.exists():
        raise UserError(f"'{target}' exists already; choose another name, or move it away")
    check_target(target, (".hdf5", ".h5"))
    if not source.is_file():
        raise UserError(f"no file at '{source}'; give a D4RL HDF5 file (`balrl data convert` makes one of other data)")
    if not h5py.is_hdf5(source):
        raise UserError(f"'{source}' is not an HDF5 file; expected the D4RL layout")
    with h5py.File(source, "r") as old:
        if success not in old or not isinstance(old[success], h5py.Dataset):
            inside = sorted(f"infos/{key}" for key in old.get("infos", {}))
            raise UserError(f"'{source}' has no array '{success}'; it has {inside or 'no infos'}")
        flags = np.asarray(old[success]).astype(bool).reshape(-1)
        if "rewards" not in old or flags.size != old["rewards"].size:
            found = old["rewards"].size if "rewards" in old else "no"
            raise UserError(
                f"'{source}': {success} has {flags.size} values, there are {found} rewards; they must agree"
            )
        temporary = target.with_name(f".{target.name}.writing")
        with h5py.File(temporary, "w") as new:
            for key in old:
                if key != "rewards":
                    old.copy(key, new)
            new.attrs.update(dict(old.attrs))
            values = np.where(flags, reward, otherwise).astype(np.float32)
            new.create_dataset("rewards", data=values, compression="gzip")
            new.attrs["rewards"] = f"{reward:g} where {success}, else {otherwise:g}; re-labelled by balrl"
    os.replace(temporary, target)
    return int(flags.sum())
