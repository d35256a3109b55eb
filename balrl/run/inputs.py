"""What a run is on: data and task, named in its configuration or handed over as objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from balrl.errors import UserError
from balrl.run.given import GIVEN, GivenTask, is_vector
from balrl.run.registry import task_of_dataset

if TYPE_CHECKING:
    from balrl.data.dataset import Dataset
    from balrl.run.presets import TrainConfig


class Given(NamedTuple):
    """What was handed over as an object; the rest is named in the configuration."""

    dataset: Dataset | None = None
    env: GivenTask | None = None


def take(config: TrainConfig, dataset: Any = None, env: Any = None) -> tuple[TrainConfig, Given]:
    """Return the configuration with what was handed over named in it, and the objects.

    A task that is neither named nor handed over is the one that the data names.

    Args:
        config: of the run.
        dataset: a path or name, a `Dataset`, a dictionary of arrays, or a Minari dataset; None: the configuration's.
        env: a Gymnasium id, a callable that makes an environment, or a vector environment; None: the configuration's.

    Raises:
        UserError: when one of them is something else, or no task is known.
    """
    data = _dataset(dataset)
    task = None if env is None or isinstance(env, str) else GivenTask(env)
    changes: dict[str, Any] = {}
    if dataset is not None:
        changes["dataset"] = str(dataset) if data is None else f"{GIVEN}{data.name}"
    if env is not None:
        name = str(task or env)
        changes |= {"env": name, "env_kwargs": config.env_kwargs if name == config.env else {}}
        if task is not None and task.num_envs is not None:
            changes["num_envs"] = task.num_envs
    config = config.model_copy(update=changes)
    if not config.env:
        config = config.model_copy(update={"env": _named_task(config, data)})
    return config, Given(data, task)


def take_for_all(
    configs: Mapping[str, TrainConfig], dataset: Any = None, env: Any = None
) -> dict[str, tuple[TrainConfig, Given]]:
    """Return what `take` does for every member of a population, the data turned into a `Dataset` once.

    Raises:
        UserError: as `take`'s, and for a vector environment: there is one, and every member needs worlds.
    """
    if is_vector(env):
        raise UserError(
            "a population needs worlds for every member: hand over a callable that makes them, env=lambda: …"
        )
    data = _dataset(dataset) or dataset
    return {name: take(config, data, env) for name, config in configs.items()}


def _dataset(given: Any) -> Dataset | None:
    """Return data that was handed over as an object; None where it is named, or there is none."""
    from balrl.data.dataset import Dataset

    if given is None or isinstance(given, str | Path):
        return None
    if isinstance(given, Dataset):
        return given
    if isinstance(given, Mapping):
        return Dataset.from_arrays(given)
    if hasattr(given, "iterate_episodes"):
        from balrl.data.minari import from_minari
        from balrl.envs.robotics import observation_adapter

        return from_minari(given, observation_adapter)
    raise UserError(
        f"dataset is {type(given).__name__}, expected a path, a balrl Dataset, a dictionary of arrays or a Minari "
        "dataset"
    )


def _named_task(config: TrainConfig, data: Dataset | None) -> str:
    found = data.env_id if data is not None else task_of_dataset(config.dataset) if config.dataset else None
    if not found:
        where = f"'{config.dataset}' names none" if config.dataset else "there is no dataset that could name one"
        more = "" if config.dataset else ", or pass --dataset FILE"
        raise UserError(f"which task? the configuration names none, and {where}: pass --env ID{more}")
    return found
