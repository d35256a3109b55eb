"""The folder of a population: its members' runs, begun, completed and run together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from balrl.agents.registration import agent_class
from balrl.checkpoint import write_text
from balrl.errors import UserError
from balrl.plain_yaml import dump_yaml, read_config_file
from balrl.run.presets import TrainConfig, dump_config
from balrl.run.start_and_resume import RunResult, check_writable, run_to_its_end, stops_on_interrupt
from balrl.settings import validate

if TYPE_CHECKING:
    from balrl.run.trainer import Trainer
    from balrl.watch.display import Display

MEMBERS = "population.yaml"
"""Who belongs to a population: its members' configurations by name."""


def check_shares_updates(configs: Iterable[TrainConfig]) -> None:
    """Raise a `UserError` if runs cannot be members of a population."""
    for config in configs:
        if agent_class(config.agent).on_policy:
            raise UserError(
                f"agent {config.agent.name} learns from its own rollouts and cannot share updates: train its seeds one "
                "by one"
            )


def begin_population(folder: Path, members: Mapping[str, TrainConfig]) -> None:
    """Write down who belongs to a population, before any of them begins.

    Raises:
        UserError: when the folder cannot be written to.
    """
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / MEMBERS, dump_yaml({name: config.model_dump(mode="json") for name, config in members.items()}))


def complete_population(folder: Path) -> list[Path]:
    """Return the members' run directories, in their order; those that a population had no time to begin are begun here.

    Raises:
        UserError: when the folder holds no population, or its list of members is not what balrl writes.
    """
    paths = member_dirs(folder)
    if (folder / MEMBERS).is_file():
        paths = []
        for name, data in read_config_file(folder / MEMBERS).items():
            path = folder / str(name)
            if path.parent != folder or path.name in ("", ".", ".."):
                raise UserError(f"'{folder / MEMBERS}' names a member '{name}', expected the name of a folder")
            if not (path / "config.yaml").exists():
                config = validate(TrainConfig, data, f"'{folder / MEMBERS}', member {name}")
                (path / "checkpoints").mkdir(parents=True, exist_ok=True)
                write_text(path / "config.yaml", dump_config(config))
            paths.append(path)
    if not paths:
        raise UserError(f"'{folder}' is no population: none of its folders holds a run")
    return paths


def is_population(path: Path) -> bool:
    """Whether a folder holds a population."""
    return (path / MEMBERS).is_file() or bool(member_dirs(path))


def member_dirs(path: Path) -> list[Path]:
    """Return the run directories in a population's directory; none if it is no such directory."""
    return sorted(found.parent for found in path.glob("*/config.yaml")) if not (path / "config.yaml").exists() else []


def common_checkpoint(paths: Sequence[Path], notice: Callable[[str], None]) -> str | None:
    """Return the name of the newest checkpoint that all members of a population have; None if each has its own.

    A population that was killed while its members were saving has some that are one checkpoint ahead. All go on from
    the one before, so that they make their updates together again.
    """
    from balrl.checkpoint import list_checkpoints, newest_readable

    newest = [newest_readable(path, lambda _: None)[0] for path in paths]
    names = [checkpoint.name for checkpoint in newest if checkpoint is not None]
    if len(set(names)) <= 1 and len(names) in (0, len(paths)):
        return None
    if len(names) < len(paths):
        notice("some members were not saved yet: all begin anew")
        return ""
    oldest = min(names)
    if any(not any(c.name == oldest for c in list_checkpoints(path)) for path in paths):
        notice("the members stand at different steps: each goes on from its own checkpoint, equal up to rounding")
        return None
    notice(f"some members were saved later than others: all go on from {oldest}")
    return oldest


@contextmanager
def released_on_error(trainers: Mapping[str, Trainer]) -> Iterator[None]:
    """Let others write into the members' directories if what is done in the context fails."""
    try:
        yield
    except BaseException:
        for trainer in trainers.values():
            if trainer.lock is not None:
                trainer.lock.release()
        raise


def run_together(trainers: Mapping[str, Trainer], display: Display, names: Sequence[str]) -> dict[str, RunResult]:
    """Run the members of a population to their ends, their updates made together.

    Args:
        trainers: those that are left.
        display: of all.
        names: of all members in order, of those that have ended, too: who is left keeps its row.

    Whatever ends one of them in error stops and saves the others, and is raised when they have.
    """
    from balrl.execution.lockstep import SharedUpdates, Worker, run_in_lockstep
    from balrl.execution.population import Population
    from balrl.execution.updates import choose_updates

    def work(trainer: Trainer) -> RunResult:
        try:
            return run_to_its_end(trainer)
        except BaseException:
            for other in trainers.values():
                other.components.stop.requested = True
            raise

    if len(names) < 2 or not trainers:
        with stops_on_interrupt(*trainers.values()):
            return {name: run_to_its_end(trainer) for name, trainer in trainers.items()}
    left = next(iter(trainers.values())).components
    runs = [trainers[name].components if name in trainers else None for name in names]
    with released_on_error(trainers):  # it may not fit into memory
        population = Population(
            [run.agent if run is not None else copy.deepcopy(left.agent) for run in runs],
            [run.replays if run is not None else [copy.copy(replay) for replay in left.replays] for run in runs],
        )
    config = next(iter(trainers.values())).config
    updates = choose_updates(
        config.compile, population, config.planned_updates, display.notice, display.working, config.precision
    )
    workers: dict[str, Worker[RunResult]] = {}
    for name, trainer in trainers.items():
        workers[name] = Worker(partial(work, trainer))
        trainer.components.updates = SharedUpdates(workers[name], updates.block)
    with stops_on_interrupt(*trainers.values()):
        run_in_lockstep(population, updates, {names.index(name): worker for name, worker in workers.items()})
    results = {}
    for name, worker in workers.items():
        if worker.error is not None:
            raise worker.error
        assert worker.result is not None
        results[name] = worker.result
    return results
