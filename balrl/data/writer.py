"""Writing D4RL HDF5 files: whole datasets, and episode after episode with the possibility to stop and go on."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError, check_target

RECORD = struct.Struct("<qI")
"""What stands before a record of a partial file: its length and its CRC-32."""
SLASH = "\u2215"
"""Stands for a slash in the names of arrays."""


def save_d4rl(dataset: Dataset, path: str | Path) -> None:
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


def write_hdf5(path: str | Path, arrays: Mapping[str, Array], attributes: Mapping[str, str]) -> None:
    """Write arrays and attributes to a new file, whole or not at all.

    The file is made in memory: HDF5's own writing ends the process where a disk is full.

    Raises:
        UserError: when it cannot be written.
    """

    def fill(file: Any) -> None:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, compression="gzip")
        file.attrs.update(attributes)

    _write(Path(path), fill)


def _write(path: Path, fill: Callable[[Any], None]) -> None:
    import h5py

    temporary = check_target(path).with_name(f".{path.name}.writing")
    with h5py.File(temporary.name, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    try:
        with temporary.open("wb") as target:
            target.write(image)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write '{path}' ({len(image) / 1e6:,.1f} MB): {error.strerror}") from error


class EpisodeWriter:
    """Appends episodes to ``<path>.partial`` and makes `path` of them when it is finished.

    The partial file is a row of records (`RECORD`), each an episode's arrays in NumPy's own format. An episode counts
    when
    its record is whole: a crash or a full disk costs the one that was being written.

    Args:
        path: of the finished file; must not exist.
        settings: what the episodes are made with; a partial file that was begun with other settings is refused.

    Raises:
        UserError: when the file exists, or the partial file was begun with other settings, or cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        path = Path(path)
        if path.exists():
            raise UserError(f"'{path}' exists already; choose another --out, or move it away")
        check_target(path)
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        self.episodes = self.rows = 0
        """How many whole episodes, and transitions of them, are written."""
        wanted = json.dumps(dict(settings), sort_keys=True)
        try:
            self._file = self.partial.open("r+b" if self.partial.exists() else "w+b", buffering=0)
        except OSError as error:
            raise UserError(f"'{self.partial}' cannot be written: {error.strerror}") from error
        try:
            self._begin(wanted)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, wanted: str) -> None:
        records = self._records()
        first = next(records, None)
        if first is None and self.partial.stat().st_size > RECORD.size:
            raise UserError(f"'{self.partial}' is no recording of this balrl; remove it to begin anew")
        if first is None:
            self._file.truncate(0)
            self._append(wanted.encode())
            return
        if first != wanted.encode():
            found = first.decode(errors="replace")
            raise UserError(f"'{self.partial}' was begun with {found}, you ask for {wanted}; remove it to begin anew")
        for record in records:
            self.episodes, self.rows = self.episodes + 1, self.rows + len(_arrays(record)["rewards"])
        self._file.truncate(self._file.tell())  # what a crash left behind the last whole episode

    def add(self, columns: Mapping[str, Array]) -> None:
        """Append one episode; it counts only when all of it is on the disk.

        Raises:
            UserError: when there is no room; what was whole before stays whole, and can be gone on with.
        """
        payload = io.BytesIO()
        np.savez(payload, allow_pickle=False, **{key.replace("/", SLASH): value for key, value in columns.items()})
        self._append(payload.getvalue())
        self.episodes, self.rows = self.episodes + 1, self.rows + len(columns["rewards"])

    def close(self) -> None:
        """Stop here; the partial file can be gone on with."""
        self._file.close()

    def finish(self, attributes: Mapping[str, str]) -> None:
        """Make the file of the whole episodes, describe it, and remove the partial one.

        Raises:
            UserError: when there is no room; the partial file stays.
        """
        self._file.seek(0)
        records = self._records()
        next(records)
        episodes = [_arrays(record) for record in records]
        columns = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
        write_hdf5(self.path, columns, attributes)
        self._file.close()
        self.partial.unlink()

    def _append(self, payload: bytes) -> None:
        start = self._file.tell()
        record = RECORD.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = 0
            while written < len(record):
                written += self._file.write(record[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            self._file.seek(start)
            raise UserError(
                f"cannot write '{self.partial}': {error.strerror}; its {self.episodes:,} whole episodes ({self.rows:,} "
                "transitions) are kept: make room, and the same command goes on"
            ) from error

    def _records(self) -> Iterator[bytes]:
        """Yield the records that are whole, and leave the file at the end of the last one."""
        self._file.seek(0)
        end = 0
        while True:
            header = self._file.read(RECORD.size)
            length, checksum = RECORD.unpack(header) if len(header) == RECORD.size else (-1, 0)
            payload = self._file.read(length) if 0 <= length <= self.partial.stat().st_size else b""
            if len(payload) != length or zlib.crc32(payload) != checksum:
                self._file.seek(end)
                return
            end = self._file.tell()
            yield payload


def _arrays(record: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(record), allow_pickle=False) as stored:
        return {key.replace(SLASH, "/"): stored[key] for key in stored.files}


def relabel(source: str | Path, target: str | Path, success: str, reward: float, otherwise: float) -> int:
    """Copy a D4RL file with sparse rewards: `reward` where its array `success` is true, `otherwise` elsewhere.

    Returns:
        how many steps succeeded.

    Raises:
        UserError: when there is no such array, it does not fit, or `target` exists.
    """
    import h5py

    source, target = Path(source), Path(target)
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

        def fill(new: Any) -> None:
            for key in old:
                if key != "rewards":
                    old.copy(key, new)
            new.attrs.update(dict(old.attrs))
            values = np.where(flags, reward, otherwise).astype(np.float32)
            new.create_dataset("rewards", data=values, compression="gzip")
            new.attrs["rewards"] = f"{reward:g} where {success}, else {otherwise:g}; re-labelled by balrl"

        _write(target, fill)
    return int(flags.sum())
