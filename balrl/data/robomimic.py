"""Reading robomimic's HDF5 layout (arXiv 2108.03298): demonstrations as groups, observations by their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from balrl.data.d4rl import opened
from balrl.data.dataset import Array, Dataset
from balrl.data.successors import with_successors
from balrl.errors import UserError, did_you_mean

GROUP = "data"
GYM = 2
"""robomimic's number for environments of Gym."""


def is_robomimic(path: str | Path) -> bool:
    """Return whether an HDF5 file has robomimic's layout.

    Raises:
        UserError: when the file is missing or no HDF5 file.
    """
    with opened(Path(path)) as file:
        group = file.get(GROUP)
        return hasattr(group, "keys") and any(key.startswith("demo") for key in group)


def load_robomimic(path: str | Path, keys: Sequence[str] = ()) -> Dataset:
    """Read a robomimic HDF5 file.

    A demonstration ends with its last row. Where rewards are one number and 0, the first is success, and the last row
    terminates if it has it; any other end is a cut. (``dones`` is true at every end, whatever it was.) The last row of
    a cut demonstration is left out where its successor was not recorded.

    Args:
        path: the file.
        keys: of ``obs``, laid out in this order; by default all that are vectors, by name.

    Raises:
        UserError: when the file is no such file, has no such key, or an observation that was chosen is no vector.
    """
    path = Path(path)
    demos: list[dict[str, Array]] = []
    with opened(path) as file:
        group = file[GROUP]
        env_args = json.loads(str(group.attrs.get("env_args", "{}")))
        names = sorted((name for name in group if name.startswith("demo")), key=_number)
        for name in names:
            demos.append(_demonstration(group[name], f"'{path}': {name}", keys))
    if not demos:
        raise UserError(f"'{path}' holds no demonstration")
    lengths = [len(demo["actions"]) for demo in demos]
    has_rewards, has_successors = ("rewards" in demos[0], "next_observations" in demos[0])
    fields = ["observations", "actions", *(["next_observations"] if has_successors else [])]
    columns: dict[str, Array] = {key: np.concatenate([demo[key] for demo in demos]) for key in fields}
    rewards = np.concatenate([demo["rewards"] for demo in demos]) if has_rewards else np.zeros(sum(lengths), np.float32)
    last = np.zeros(sum(lengths), bool)
    last[np.cumsum(lengths) - 1] = True
    is_sparse = len(np.unique(rewards)) == 2 and rewards.min() == 0
    success = last & (rewards > 0) & is_sparse
    columns, left_out = with_successors(
        columns | {"rewards": rewards, "terminated": success, "truncated": last & ~success}
    )
    env_id = str(env_args["env_name"]) if env_args.get("type") == GYM else None
    dataset = Dataset.from_arrays(columns, path.stem, env_id)
    used = ", ".join(keys) if keys else ", ".join(demos[0]["names"].tolist())
    notes = [f"observations are {used}; others: data.observation_keys"]
    notes += [f"{left_out:,} rows without a recorded successor left out"] if left_out else []
    if env_args.get("env_name") and env_id is None:
        notes.append(f"made in {env_args['env_name']}, which is no Gymnasium id: give --env, or env.make of your own")
    if is_sparse:
        notes.append(f"{int(success.sum()):,} of {len(lengths):,} demonstrations end with success and terminate there")
    else:
        notes.append("rewards are dense, so that nothing tells which demonstrations terminated: all ends count as cuts")
    return replace(dataset, notes=(*dataset.notes, *notes))


def _demonstration(demo: Any, where: str, keys: Sequence[str]) -> dict[str, Array]:
    missing = [key for key in ("obs", "actions") if key not in demo]
    if missing:
        hint = "; states without observations become some with robomimic's dataset_states_to_obs" * ("obs" in missing)
        raise UserError(f"{where} lacks {missing}, expected robomimic's layout{hint}")
    vectors = sorted(key for key, item in demo["obs"].items() if len(item.shape) <= 2)
    for key in keys:
        if key not in demo["obs"]:
            raise UserError(
                f"{where} has no observation '{key}'{did_you_mean(key, list(demo['obs']))}; it has {vectors}"
            )
        if key not in vectors:
            raise UserError(f"{where}: observation '{key}' has shape {demo['obs'][key].shape[1:]}, expected a vector")
    chosen = list(keys) or vectors
    if not chosen:
        raise UserError(f"{where} has no observation that is a vector; it has {sorted(demo['obs'])}")
    found = {"observations": _laid_out(demo["obs"], chosen), "actions": demo["actions"][()]}
    if "next_obs" in demo:
        found["next_observations"] = _laid_out(demo["next_obs"], chosen)
    if "rewards" in demo:
        found["rewards"] = np.asarray(demo["rewards"][()], np.float32).reshape(-1)
    return found | {"names": np.array(chosen)}


def _laid_out(group: Any, keys: Sequence[str]) -> Array:
    return np.concatenate([np.asarray(group[key][()], np.float32).reshape(group[key].shape[0], -1) for key in keys], -1)


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0), name
