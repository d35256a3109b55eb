"""Reading LeRobot datasets (github.com/huggingface/lerobot), versions 2.1 and 3.0: Parquet and a description."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.data.successors import with_successors
from balrl.errors import UserError, did_you_mean, first_line

INFO = "meta/info.json"
OBSERVATION = "observation."
VERSIONS = ("v2.0", "v2.1", "v3.0")
NO_REWARDS = "the data have no next.reward: all rewards are 0; behaviour cloning needs none"


def is_lerobot(path: str | Path) -> bool:
    """Return whether a folder has LeRobot's layout."""
    return (Path(path) / INFO).is_file()


def load_lerobot(path: str | Path, keys: Sequence[str] = ()) -> Dataset:
    """Read a LeRobot dataset from its folder.

    ``next.reward`` and ``next.done`` are what follows on a row's action. An episode terminates in its last row where
    ``next.success`` is true, and is cut there otherwise. What comes behind an episode's last row was not recorded, so
    that of a cut episode it is left out.

    Args:
        path: the folder that holds ``meta`` and ``data``.
        keys: of the observations, laid out in this order; by default all that are vectors of numbers, by name. Images
            and videos are not read.

    Raises:
        UserError: without the package pyarrow, and when the folder is no such dataset or has no such key.
    """
    path = Path(path)
    features = _features(path)
    vectors = [key for key, kind in sorted(features.items()) if key.startswith(OBSERVATION) and _is_vector(kind)]
    chosen = list(keys) or vectors
    for key in chosen:
        if key not in vectors:
            raise UserError(f"'{path}' has no vector '{key}'{did_you_mean(key, vectors)}; it has {vectors}")
    if not chosen:
        raise UserError(f"'{path}' has no observation that is a vector; it has {sorted(features)}")
    if "action" not in features:
        raise UserError(f"'{path}' has no action; it has {sorted(features)}")
    optional = [key for key in ("next.reward", "next.success") if key in features]
    columns = _read(path, [*chosen, "action", "episode_index", "frame_index", *optional])
    order = np.lexsort([columns["frame_index"], columns["episode_index"]])
    columns = {key: values[order] for key, values in columns.items()}
    last = np.diff(columns["episode_index"], append=-1) != 0
    success = columns.get("next.success", np.zeros(len(last))).astype(bool)
    data = {
        "observations": np.concatenate([columns[key] for key in chosen], -1),
        "actions": columns["action"],
        "rewards": columns.get("next.reward", np.zeros(len(last), np.float32)),
        "terminated": last & success,
        "truncated": last & ~success,
    }
    data, left_out = with_successors(data)
    dataset = Dataset.from_arrays(data, path.name)
    notes = [f"observations are {', '.join(chosen)}; others: data.observation_keys"]
    notes += [f"{left_out:,} rows without a recorded successor left out"] if left_out else []
    notes += [] if "next.reward" in features else [NO_REWARDS]
    return replace(dataset, notes=(*dataset.notes, *notes))


def _features(path: Path) -> dict[str, dict[str, Any]]:
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
        version, features = info["codebase_version"], info["features"]
    except OSError as error:
        raise UserError(f"'{path}' is no LeRobot dataset: {INFO} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path / INFO}' is no description of a LeRobot dataset ({first_line(error)})") from error
    if version not in VERSIONS:
        raise UserError(f"'{path}' is of LeRobot's version {version}, expected one of {', '.join(VERSIONS)}")
    return dict(features)


def _is_vector(feature: dict[str, Any]) -> bool:
    return str(feature.get("dtype", "")).startswith(("float", "int")) and len(feature.get("shape", ())) <= 1


def _read(path: Path, keys: Sequence[str]) -> dict[str, Array]:
    try:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException
    except ImportError as error:
        raise UserError("LeRobot's files need pyarrow: pip install 'balrl[parquet]'") from error
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise UserError(f"'{path}' has no Parquet file under data: the dataset was not fetched whole")
    parts: dict[str, list[Array]] = {key: [] for key in keys}
    for file in files:
        try:
            table = parquet.read_table(file, columns=list(keys))
        except (ArrowException, OSError, KeyError) as error:
            raise UserError(f"'{file}' cannot be read ({first_line(error)}): fetch it again") from error
        missing = [key for key in keys if key not in table.column_names]
        if missing:
            raise UserError(f"'{file}' lacks {missing}; it has {table.column_names}")
        for key in keys:
            values = table.column(key).combine_chunks()
            is_list = hasattr(values, "flatten") and str(values.type).startswith(("list", "fixed_size_list"))
            flat = values.flatten() if is_list else values
            array = flat.to_numpy(zero_copy_only=False)
            wide = is_list or key.startswith(OBSERVATION) or key == "action"
            parts[key].append(array.reshape(len(values), -1) if wide else array)
    return {key: np.concatenate(values) for key, values in parts.items()}
