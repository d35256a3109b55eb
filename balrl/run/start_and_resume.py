"""Run directories: starting one, opening one again, running what is left of it."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from balrl.checkpoint import write_text
from balrl.errors import EnvironmentFault, UserError
from balrl.foreign import fields, read_json
from balrl.report.runs import method_of
from balrl.run.imports import check_imported
from balrl.run.interrupts import on_interrupt
from balrl.run.presets import TrainConfig, dump_config, load_config
from balrl.run.run_lock import LockLost, RunLock, check_no_links
from balrl.run.state import RunState

if TYPE_CHECKING:
    from balrl.run.assemble_data import Shared
    from balrl.run.components import Components
    from balrl.run.inputs import Given
    from balrl.run.trainer import Trainer
    from balrl.watch.callbacks import Callback
    from balrl.watch.display import Display
    from balrl.watch.tracking import Tracker


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_dir: where everything was written.
        finished: False if it was interrupted; ``balrl train --resume RUN_DIR`` goes on.
        summary: the contents of ``summary.json``.
    """

    run_dir: Path
    finished: bool
    summary: dict[str, Any]

    @property
    def final_score(self) -> float:
        """The last evaluation's score."""
        return float(self.summary["final"]["score"])


def prepare_run(
    config: TrainConfig, path: Path, display: Display, shared: Shared | None = None, given: Given | None = None
) -> Components:
    """Make what a new run in a directory is made of. Writes nothing.

    Raises:
        UserError: for a mistake in the configuration or the data, or when the directory holds a run already.
    """
    from balrl.run.assemble import assemble

    config.check_phases()
    check_writable(path)
    if (path / "config.yaml").exists():
        raise UserError(f"'{path}' already holds a run: go on with --resume {path}, or choose another --run-dir")
    return assemble(config, display, shared=shared, given=given)


def start_run(
    config: TrainConfig,
    components: Components,
    path: Path,
    shared: Shared | None = None,
    callbacks: Sequence[Callback] = (),
    lock: RunLock | None = None,
) -> Trainer:
    """Make the directory of a prepared run, and what runs in it. The trainer holds its lock: `lock` if that is held.

    Raises:
        UserError: when another process has begun a run there, or a link stands where the run would write.
    """
    from balrl.run.trainer import Trainer

    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    check_no_links(path)
    lock = lock or RunLock(path)
    try:
        if (path / "config.yaml").exists():
            raise UserError(f"'{path}' holds a run that was begun just now: choose another --run-dir")
        write_text(path / "config.yaml", dump_config(config))
        tracker = _start_tracker(config, path, components.display, shared)
        return Trainer(config, components, tracker, path, callbacks, lock)
    except BaseException:
        lock.release()
        raise


def reopen_run(
    path: Path,
    config: TrainConfig | None,
    display: Display,
    shared: Shared | None = None,
    given: Given | None = None,
    callbacks: Sequence[Callback] = (),
    until: str | None = None,
    lock: RunLock | None = None,
) -> Trainer | RunResult:
    """Return what goes on with a run from its newest checkpoint, or how it ended if nothing is left to do.

    Args:
        path: of the run.
        config: if given, must equal the run's own.
        display: told what a person should know.
        shared: the same for all runs that may share their logged data.
        given: data and task that the run was started with as objects.
        callbacks: called beside the display.
        until: name of the newest checkpoint that counts.
        lock: of the directory, if it is held.

    Raises:
        UserError: when the configuration, the data or the task is another, another process writes, or there is no run.
    """
    stored = read_run_config(path)
    if config is not None and config != stored:
        key, ours, theirs = _first_difference(config.model_dump(), stored.model_dump())
        raise UserError(
            f"'{path}' was started with {key} = {theirs!r}, you ask for {ours!r}: a run resumes with its own "
            "configuration; leave the setting out, or start a new run"
        )
    check_imported(stored.imports, f"'{path}'")
    check_writable(path)
    check_no_links(path)
    lock = lock or RunLock(path)
    try:
        opened = _reopen(path, stored, display, {} if shared is None else shared, given, callbacks, lock, until)
    except BaseException:
        lock.release()
        raise
    if isinstance(opened, RunResult):
        lock.release()
    return opened


def _reopen(
    path: Path,
    config: TrainConfig,
    display: Display,
    shared: Shared,
    given: Given | None,
    callbacks: Sequence[Callback],
    lock: RunLock,
    until: str | None,
) -> Trainer | RunResult:
    from balrl.checkpoint import RUN, load_tensors, newest_readable
    from balrl.run.assemble import assemble
    from balrl.run.pictures import pictures_are_drawn
    from balrl.run.trainer import Trainer

    checkpoint, state = newest_readable(path, display.notice, until)
    if state is not None:
        progress = fields(state, RUN, f"'{checkpoint}'")["progress"]
        RunState.from_json(progress, f"'{checkpoint}': 'progress'")
    if state and state["progress"]["phase"] == "done" and (path / "summary.json").exists():
        summary = read_json(path / "summary.json", dict)
        if summary.get("finished") and pictures_are_drawn(path):
            return RunResult(path, True, summary)
    reward = load_tensors(checkpoint, "reward") if checkpoint else None
    components = assemble(config, display, state, shared, reward, given)
    if state:
        _check_same(path, config, state, components)
    offset = state["metrics_offset"] if state else 0
    trainer = Trainer(config, components, _start_tracker(config, path, display, shared, offset), path, callbacks, lock)
    if checkpoint and not trainer.load(checkpoint):
        display.notice(
            f"{config.env} cannot save its state: running episodes restart, the resumed run is not bit-exact"
        )
    return trainer


def _check_same(path: Path, config: TrainConfig, state: Mapping[str, Any], components: Components) -> None:
    """Raise a `UserError` if data or task are not what a run was started with."""
    if state.get("dataset_fingerprint") != components.identity["dataset_fingerprint"]:
        raise UserError(f"the data at '{config.dataset}' is not what the run was started with: its contents changed")
    before, now = state.get("task"), components.identity["task"]  # older checkpoints have none
    if before is not None and before != now:
        raise UserError(
            f"the task {now['name']} is not what '{path}' was started with: its spaces or its step limit changed"
        )


def run_to_its_end(trainer: Trainer) -> RunResult:
    """Run what is left, and write summary and pictures however that ends."""
    from balrl.run.pictures import draw_pictures
    from balrl.run.summary import write_summary

    path, components = trainer.run_dir, trainer.components
    outcome: str = "failed"
    try:
        outcome = trainer.run()
    finally:
        try:
            if _still_holds(trainer):  # else what lies there is another's
                summary = write_summary(path, components.identity, trainer.state, outcome)
                shown = {key: summary[key] for key in ("final", "best", "switch")}
                trainer.tracker.close(shown, 0 if outcome == "finished" else 1)
                draw_pictures(path, cast(TrainConfig, trainer.config), components)
        finally:
            components.close()
            if trainer.lock is not None:
                trainer.lock.release()
    return RunResult(path, outcome == "finished", summary)


def _still_holds(trainer: Trainer) -> bool:
    try:
        if trainer.lock is not None:
            trainer.lock.check()
    except LockLost:
        return False
    return True


@contextmanager
def stops_on_interrupt(*trainers: Trainer) -> Iterator[None]:
    """Turn the first Ctrl-C (or a termination) into a saved stop of every run; a second one acts as usual.

    And a step of a task that does not return into an end.
    """
    from balrl.run.step_guard import StepGuard

    guard = StepGuard(max((trainer.config.environment.step_timeout for trainer in trainers), default=math.inf))

    def request() -> None:
        if guard.message:
            raise EnvironmentFault(guard.message)
        for trainer in trainers:
            trainer.components.stop.requested = True

    with on_interrupt(request), guard.watching():
        yield


def default_run_dir(config: TrainConfig, which: str | None = None) -> Path:
    """Return ``runs/<method>-<task>-s<seed>-<time>``, or with something else in the place of the seed."""
    method, task = method_of(config.model_dump(mode="json")), re.sub(r"[^\w.-]+", "-", config.env.rsplit("/", 1)[-1])
    return Path("runs") / f"{method}-{task}-{which or f's{config.seed}'}-{time.strftime('%Y%m%d-%H%M%S')}"


def read_run_config(path: Path) -> TrainConfig:
    """Return the configuration that a run directory was started with."""
    if not (path / "config.yaml").is_file():
        raise UserError(f"'{path}' is no balrl run: it has no config.yaml; expected a directory that balrl train wrote")
    return load_config(file=path / "config.yaml")


def _start_tracker(
    config: TrainConfig, path: Path, display: Display, shared: Shared | None = None, offset: int = 0
) -> Tracker:
    from balrl.watch.tracking import Tracker

    tracking, shared = config.tracking, {} if shared is None else shared
    mode = shared.get("wandb", tracking.wandb)
    tracker = Tracker(path, config.model_dump(mode="json"), mode, tracking.project, offset, tracking.tensorboard)
    if tracker.notice:
        shared["wandb"] = "offline"  # the other members need not wait for the same
        display.notice(tracker.notice)
    return tracker


def check_writable(path: Path) -> None:
    """Raise a `UserError` if the directory, or the nearest one above that exists, cannot be written to."""
    try:
        nearest = path
        while not nearest.exists():
            nearest = nearest.parent
    except OSError as error:
        raise UserError(f"cannot write to the run directory '{path}': {error.strerror}") from error
    if not nearest.is_dir():
        raise UserError(f"cannot write to the run directory '{path}': '{nearest}' is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to the run directory '{path}': permission denied")


def _first_difference(ours: Any, theirs: Any, prefix: str = "") -> tuple[str, Any, Any]:
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            return _first_difference(a, b, f"{prefix}{key}.")
        return prefix + key, a, b
    raise AssertionError("the configurations are equal")
