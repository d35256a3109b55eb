"""Minari datasets (github.com/Farama-Foundation/Minari), in and out, through Minari's own reader and writer."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from balrl.data.dataset import Array, Dataset
from balrl.errors import UserError, first_line
from balrl.spaces import SpaceAdapter

Adapter = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def load_minari(name: str, adapter_for: Callable[[str], Adapter | None] | None = None) -> Dataset:
    """Read a Minari dataset by its id (local, or fetched by Minari), or from its folder.

    Goal-dictionary observations are flattened to observation + desired goal, other dictionaries of boxes to all of
    them. Every episode holds one observation more than actions, so each transition has its true successor.

    Args:
        name: an id such as ``D4RL/door/human-v2``, or a folder that holds ``data/main_data.hdf5``.
        adapter_for: returns what a task's goal dictionaries go through first, by the environment's id.

    Raises:
        UserError: when Minari is not installed, or the data is neither here nor to be had, or not flat.
    """
    minari = _import()
    try:
        if (Path(name) / "data").is_dir():
            data = minari.MinariDataset(Path(name) / "data")
        else:
            data = minari.load_dataset(name, download=True)
    except Exception as error:  # the network, the server, the file: for the user it is one thing
        local = sorted(minari.list_local_datasets())
        reason = first_line(error)
        raise UserError(
            f"the Minari dataset '{name}' is not on this machine and could not be fetched ({reason}); "
            f"here are: {', '.join(local) or 'none'}; fetch it with `minari download {name}` where there is a network"
        ) from error
    return from_minari(data, adapter_for, Path(name).name if (Path(name) / "data").is_dir() else None)


def from_minari(
    data: Any, adapter_for: Callable[[str], Adapter | None] | None = None, name: str | None = None
) -> Dataset:
    """Return the transitions of a `minari.MinariDataset`; see `load_minari`.

    Args:
        data: the dataset.
        adapter_for: as `load_minari`'s.
        name: of the data; default: its id.

    Raises:
        UserError: when it is empty or not flat.
    """
    name = name or str(data.spec.dataset_id)
    env_id = data.spec.env_spec.id if data.spec.env_spec else None
    adapter = adapter_for(env_id) if adapter_for and env_id else None
    columns: dict[str, list[Array]] = {key: [] for key in ("observations", "next_observations", "actions", "rewards")}
    terminated, truncated = [], []
    for episode in data.iterate_episodes():
        if not len(episode.rewards):
            continue
        observations = _flat(episode.observations, adapter, data.spec.observation_space, name)
        columns["observations"].append(observations[:-1])
        columns["next_observations"].append(observations[1:])
        columns["actions"].append(np.asarray(episode.actions))
        columns["rewards"].append(np.asarray(episode.rewards))
        terminated.append(np.asarray(episode.terminations, bool))
        truncated.append(np.asarray(episode.truncations, bool))
    if not terminated:
        raise UserError(f"the Minari dataset '{name}' is empty: expected at least one episode")
    for ended, cut in zip(terminated, truncated, strict=True):
        cut[-1] |= not ended[-1]
    floats: dict[str, Any] = {
        key: np.ascontiguousarray(np.concatenate(values), np.float32) for key, values in columns.items()
    }
    return Dataset(
        **floats,
        terminated=np.concatenate(terminated),
        truncated=np.concatenate(truncated),
        name=name,
        env_id=env_id,
    )


def check_minari_id(dataset_id: str) -> None:
    """Raise a `UserError` if a local Minari dataset of this id cannot be written: malformed, or there already."""
    minari = _import()
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"cannot write the Minari dataset '{dataset_id}': expected an id such as maze/mixed-v0"
        ) from error
    if dataset_id in minari.list_local_datasets():
        raise UserError(f"cannot write the Minari dataset '{dataset_id}': it exists already; choose another version")


def save_minari(dataset: Dataset, dataset_id: str, action_space: gym.Space[Any]) -> None:
    """Write a dataset as the local Minari dataset `dataset_id`, such as ``maze/mixed-v0``.

    Raises:
        UserError: when Minari is not installed, the id is no valid one, or it exists already.
    """
    check_minari_id(dataset_id)
    _check_room(dataset, dataset_id)
    import minari
    from minari.data_collector import EpisodeBuffer  # not the package's DataCollector, which imports jax

    buffers = []
    for index, rows in enumerate(dataset.episode_slices):
        observations = np.concatenate([dataset.observations[rows], dataset.next_observations[rows][-1:]])
        truncated = dataset.truncated[rows].copy()
        buffers.append(
            EpisodeBuffer(
                id=index,
                observations=list(observations),
                actions=list(dataset.actions[rows]),
                rewards=list(dataset.rewards[rows]),  # arrays, of which Minari's file takes the shape
                terminations=dataset.terminated[rows].tolist(),
                truncations=truncated.tolist(),
                infos={},
            )
        )
    width = dataset.observations.shape[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is set to None|env_spec is None")  # authors, links
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=dataset.env_id if dataset.env_id in gym.registry else None,
            action_space=action_space,
            observation_space=gym.spaces.Box(-np.inf, np.inf, (width,), np.float32),
            description=f"Written by balrl from {dataset.name}.",
        )


def _check_room(dataset: Dataset, dataset_id: str) -> None:
    """Raise a `UserError` if a disk is too full: Minari's writer would end the process in the middle of it."""
    from minari.storage import get_dataset_path

    needed = sum(getattr(dataset, name).nbytes for name in ("observations", "actions", "rewards"))
    folder = next(path for path in Path(get_dataset_path(dataset_id)).parents if path.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"cannot write '{dataset_id}': it needs {needed:,} bytes, '{folder}' has {free:,} left")


def _flat(observations: Any, adapter: Adapter | None, space: gym.Space[Any], name: str) -> Array:
    """Return an episode's observations as vectors, as a task of this space would."""
    if adapter and isinstance(observations, Mapping):
        observations = adapter(observations)
        space = gym.spaces.Dict(
            {key: gym.spaces.Box(-np.inf, np.inf, np.shape(observations[key])[1:]) for key in observations}
        )
    try:
        flat = SpaceAdapter(space, gym.spaces.Box(-1, 1, (1,))).flatten(observations)
    except UserError as error:
        raise UserError(f"'{name}': {error}") from error
    return np.asarray(flat)


def _import() -> Any:
    try:
        import minari
    except ImportError as error:
        raise UserError("Minari is not installed; it comes with: pip install 'balrl[minari]'") from error
    return minari
