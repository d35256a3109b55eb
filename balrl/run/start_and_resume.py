"""Run directories: starting one, opening one again, running what is left of it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from balrl.errors import UserError
from balrl.run.presets import TrainConfig, dump_config, load_config

if TYPE_CHECKING:
    from balrl.run.assemble_data import Shared
    from balrl.run.components import Components
    from balrl.run.trainer import Trainer
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


def prepare_run(config: TrainConfig, path: Path, display: Display, shared: Shared | None = None) -> Components:
    """Make what a new run in a directory is made of. Writes nothing.

    Raises:
        UserError: for a mistake in the configuration or the data, or when the directory holds a run already.
    """
    from balrl.run.assemble import assemble

    config.check_phases()
    _check_writable(path)
    if (path / "config.yaml").exists():
        raise UserError(f"'{path}' already holds a run: go on with --resume {path}, or choose another --run-dir")
    return assemble(config, display, shared=shared)


def start_run(config: TrainConfig, components: Components, path: Path, shared: Shared | None = None) -> Trainer:
    """Make the directory of a prepared run, and what runs in it."""
    from balrl.run.trainer import Trainer

    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return Trainer(config, components, _start_tracker(config, path, components.display, shared), path)


def reopen_run(
    path: Path, config: TrainConfig | None, display: Display, shared: Shared | None = None
) -> Trainer | RunResult:
    """Return what goes on with a run from its newest checkpoint, or how it ended if nothing is left to do.

    Args:
        path: of the run.
        config: if given, must equal the run's own.

    Raises:
        UserError: when the configuration or the data is another, or there is no run.
    """
    from balrl.checkpoint import load_tensors, newest_readable
    from balrl.run.assemble import assemble
    from balrl.run.trainer import Trainer

    stored = read_run_config(path)
    if config is not None and config != stored:
        key, ours, theirs = _first_difference(config.model_dump(), stored.model_dump())
        raise UserError(
            f"'{path}' was started with {key} = {theirs!r}, you ask for {ours!r}: a run resumes with its own "
            "configuration; leave the setting out, or start a new run"
        )
    _check_writable(path)
    checkpoint, state = newest_readable(path, display.notice)
    summary_file = path / "summary.json"
    if state and state["progress"]["phase"] == "done" and summary_file.exists():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        if summary["finished"]:
            return RunResult(path, True, summary)
    reward = load_tensors(checkpoint, "reward") if checkpoint else None
    components = assemble(stored, display, state, shared, reward)
    if state and state["dataset_fingerprint"] != components.identity["dataset_fingerprint"]:
        raise UserError(f"the data at '{stored.dataset}' is not what the run was started with: its contents changed")
    offset = state["metrics_offset"] if state else 0
    trainer = Trainer(stored, components, _start_tracker(stored, path, display, shared, offset), path)
    if checkpoint and not trainer.load(checkpoint):
        display.notice(
            f"{stored.env} cannot save its state: running episodes restart, the resumed run is not bit-exact"
        )
    return trainer


def run_to_its_end(trainer: Trainer) -> RunResult:
    """Run what is left, and write summary and pictures however that ends."""
    from balrl.run.pictures import draw_pictures
    from balrl.run.summary import write_summary

    path, components = trainer.run_dir, trainer.components
    outcome = "interrupted"
    try:
        outcome = trainer.run()
    finally:
        identity = components.identity
        summary = write_summary(path, identity["config"], trainer.state, identity["dataset_fingerprint"], outcome)
        shown = {key: summary[key] for key in ("final", "best", "switch")}
        trainer.tracker.close(shown, 0 if outcome == "finished" else 1)
        draw_pictures(path, cast(TrainConfig, trainer.config), components)
        components.close()
    return RunResult(path, outcome == "finished", summary)


def run_together(trainers: Mapping[str, Trainer], display: Display) -> dict[str, RunResult]:
    """Run the members of a population to their ends, their updates made together.

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
                other.stop_requested = True
            raise

    if len(trainers) < 2:
        with stops_on_interrupt(*trainers.values()):
            return {name: run_to_its_end(trainer) for name, trainer in trainers.items()}
    runs = [trainer.components for trainer in trainers.values()]
    population = Population([run.agent for run in runs], [run.replays for run in runs])
    config = next(iter(trainers.values())).config
    updates = choose_updates(
        config.compile, population, config.planned_updates, display.notice, display.working, config.precision
    )
    workers: dict[str, Worker[RunResult]] = {}
    for name, trainer in trainers.items():
        workers[name] = Worker(partial(work, trainer))
        trainer.components.updates = SharedUpdates(workers[name], updates.block)
    with stops_on_interrupt(*trainers.values()):
        run_in_lockstep(population, updates, list(workers.values()))
    results = {}
    for name, worker in workers.items():
        if worker.error is not None:
            raise worker.error
        assert worker.result is not None
        results[name] = worker.result
    return results


@contextmanager
def stops_on_interrupt(*trainers: Trainer) -> Iterator[None]:
    """Turn the first Ctrl-C (or a termination) into a saved stop of every run; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        with nullcontext():
            yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: Any) -> None:
        for trainer in trainers:
            trainer.stop_requested = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_run_dir(config: TrainConfig, preset: str | None = None, which: str | None = None) -> Path:
    """Return ``runs/<method>-<task>-s<seed>-<time>``, or with something else in the place of the seed.

    The method is the preset's, or else the agent.
    """
    method = preset.partition("/")[0] if preset else config.agent.name
    task = config.env.rsplit("/", 1)[-1]
    return Path("runs") / f"{method}-{task}-{which or f's{config.seed}'}-{time.strftime('%Y%m%d-%H%M%S')}"


def read_run_config(path: Path) -> TrainConfig:
    """Return the configuration that a run directory was started with."""
    if not (path / "config.yaml").is_file():
        raise UserError(f"'{path}' is no balrl run: it has no config.yaml; expected a directory that balrl train wrote")
    return load_config(file=path / "config.yaml")


def member_dirs(path: Path) -> list[Path]:
    """Return the run directories in a population's directory; none if it is no such directory."""
    return sorted(found.parent for found in path.glob("*/config.yaml")) if not (path / "config.yaml").exists() else []


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


def _check_writable(path: Path) -> None:
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
