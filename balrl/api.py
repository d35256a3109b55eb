"""What users call: `train`, `train_population`, `resume`, `evaluate`, … Exposed lazily as ``balrl.<name>``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.errors import UserError
from balrl.run.imports import import_modules
from balrl.run.inputs import take, take_for_all
from balrl.run.populations import (
    begin_population,
    check_shares_updates,
    common_checkpoint,
    complete_population,
    is_population,
    released_on_error,
    run_together,
)
from balrl.run.presets import TrainConfig
from balrl.run.start_and_resume import (
    RunResult,
    default_run_dir,
    prepare_run,
    read_run_config,
    reopen_run,
    run_to_its_end,
    start_run,
    stops_on_interrupt,
)
from balrl.watch.callbacks import check_callbacks
from balrl.watch.display import Display, MemberDisplay

if TYPE_CHECKING:
    from balrl.run.trainer import Trainer


def train(
    config: TrainConfig,
    run_dir: str | Path | None = None,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> RunResult:
    """Run all phases of a configuration and write everything to a new directory.

    Args:
        config: from `balrl.load_config`, or built by hand.
        run_dir: must not hold a run yet; by default ``runs/<method>-<task>-s<seed>-<time>``.
        display: shows progress; silent by default.
        dataset: in place of the configuration's: a path or name, a `balrl.Dataset`, a dictionary of arrays, or a Minari
            dataset.
        env: in place of the configuration's: a Gymnasium id, a callable without arguments that makes one environment
            (or a vector of them), or a `gymnasium.vector.VectorEnv`.
        callbacks: `balrl.Callback`s, or classes of them.

    Raises:
        UserError: for a mistake in the configuration, the data or the directory.
        EnvironmentFault: when the task returns what no task returns.
    """
    import_modules(config.imports, "imports:")
    config, given = take(config, dataset, env)
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    called = check_callbacks(callbacks)
    trainer = start_run(config, prepare_run(config, path, display or Display(), given=given), path, callbacks=called)
    with stops_on_interrupt(trainer):
        return run_to_its_end(trainer)


def resume(
    run_dir: str | Path,
    config: TrainConfig | None = None,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> RunResult:
    """Go on with an interrupted run from its newest checkpoint.

    Args:
        run_dir: of the run.
        config: if given, must equal the run's own.
        display: shows progress; silent by default.
        dataset, env: what `train` was handed over as objects, again.
        callbacks: as `train`'s; which there were before does not matter.

    Raises:
        UserError: when the run cannot be gone on with.
        EnvironmentFault: when the task returns what no task returns.
    """
    path = Path(run_dir)
    named, given = take(read_run_config(path), dataset, env)
    opened = reopen_run(
        path,
        named if config is None else config,
        display or Display(),
        given=given,
        callbacks=check_callbacks(callbacks),
    )
    if isinstance(opened, RunResult):
        return opened
    with stops_on_interrupt(opened):
        return run_to_its_end(opened)


def train_population(
    members: Mapping[str, TrainConfig],
    run_dir: str | Path,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> dict[str, RunResult]:
    """Train several runs as one batched computation; each is what it would be alone.

    Args:
        members: their configurations, by name; from `balrl.member_configs`.
        run_dir: gets one run directory for each, ``run_dir/name``.
        display: shows progress; silent by default.
        dataset, env: as `train`'s, for all of them; a vector environment must come from a callable.
        callbacks: called by every member.

    Returns:
        How each ended.

    Raises:
        UserError: for a mistake in the configurations, the data or the directory.
    """
    display, folder = display or Display(), Path(run_dir)
    if is_population(folder) or (folder / "config.yaml").exists():
        raise UserError(f"'{folder}' already holds runs: go on with --resume {folder}, or choose another --run-dir")
    for config in members.values():
        import_modules(config.imports, "imports:")
    check_shares_updates(members.values())
    taken = take_for_all(members, dataset, env)
    shared: dict[Any, Any] = {}
    prepared = {
        name: prepare_run(config, folder / name, MemberDisplay(display, name), shared, given)
        for name, (config, given) in taken.items()
    }
    called = check_callbacks(callbacks)
    begin_population(folder, {name: config for name, (config, _) in taken.items()})
    trainers: dict[str, Trainer] = {}
    with released_on_error(trainers):
        for name, (config, _) in taken.items():
            trainers[name] = start_run(config, prepared[name], folder / name, shared, called)
    return run_together(trainers, display, list(trainers))


def resume_population(
    run_dir: str | Path,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> dict[str, RunResult]:
    """Go on with every interrupted run in a population's directory.

    Args:
        run_dir: of the population.
        display: shows progress; silent by default.
        dataset, env, callbacks: as `resume`'s.

    Raises:
        UserError: when there is none.
    """
    paths = complete_population(Path(run_dir))
    display = display or Display()
    shared: dict[Any, Any] = {}
    called, until = check_callbacks(callbacks), common_checkpoint(paths, display.notice)
    taken = take_for_all({path.name: read_run_config(path) for path in paths}, dataset, env)
    ended: dict[str, RunResult] = {}
    left: dict[str, Trainer] = {}
    with released_on_error(left):
        for path in paths:
            config, given = taken[path.name]
            opened = reopen_run(path, config, MemberDisplay(display, path.name), shared, given, called, until)
            if isinstance(opened, RunResult):
                ended[path.name] = opened
            else:
                left[path.name] = opened
    return ended | run_together(left, display, [path.name for path in paths])
