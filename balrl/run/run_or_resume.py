"""One call for a run that may be ended at any time, on any machine, and goes on from where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.run.imports import import_modules
from balrl.run.inputs import Given, take, take_for_all
from balrl.run.populations import check_shares_updates, common_checkpoint, released_on_error, run_together
from balrl.run.presets import TrainConfig
from balrl.run.run_lock import RunLock
from balrl.run.start_and_resume import (
    RunResult,
    check_writable,
    prepare_run,
    reopen_run,
    run_to_its_end,
    start_run,
    stops_on_interrupt,
)
from balrl.watch.callbacks import Callback, check_callbacks
from balrl.watch.display import Display, MemberDisplay

if TYPE_CHECKING:
    from balrl.run.assemble_data import Shared
    from balrl.run.trainer import Trainer


def run_or_resume(
    run_dir: str | Path,
    config: TrainConfig,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
    on_held: Callable[[Path], None] = lambda _: None,
) -> RunResult:
    """Train into a directory, go on with the run that stands there, or return how it ended, whichever is left to do.

    Killed at any time and called again, it loses what came after the newest checkpoint and nothing else. Of several
    callers at one time, on one machine or on shared storage, one runs and the others are refused.

    Args:
        run_dir: of the run; made if it is not there.
        config: of the run; one that stands in the directory must equal it.
        display: shows progress; silent by default.
        dataset, env, callbacks: as `train`'s.
        on_held: called with the directory as soon as this process is the one that writes there.

    Raises:
        LockHeld: when another process writes there.
        UserError: for a mistake in the configuration, the data or the directory.
        EnvironmentFault: when the task returns what no task returns.
    """
    import_modules(config.imports, "imports:")
    config, given = take(config, dataset, env)
    opened = _open(Path(run_dir), config, display or Display(), None, given, check_callbacks(callbacks), on_held)
    if isinstance(opened, RunResult):
        return opened
    with stops_on_interrupt(opened):
        return run_to_its_end(opened)


def run_or_resume_together(
    runs: Mapping[Path, TrainConfig],
    display: Display | None = None,
    callbacks: Iterable[Any] = (),
    on_held: Callable[[Path], None] = lambda _: None,
) -> dict[Path, RunResult]:
    """Do what `run_or_resume` does for several runs that may form a population, as one batched computation.

    Args:
        runs: directories with different last names, and their configurations.
        display: shows progress; silent by default.
        callbacks: called by every run.
        on_held: as `run_or_resume`'s, for each.

    Raises:
        UserError: as `run_or_resume`'s, and when they cannot share updates.
    """
    for config in runs.values():
        import_modules(config.imports, "imports:")
    check_shares_updates(runs.values())
    display, called = display or Display(), check_callbacks(callbacks)
    shared: Shared = {}
    paths = {path.name: path for path in runs}
    taken = take_for_all({path.name: config for path, config in runs.items()})
    until = common_checkpoint(list(runs), display.notice)
    ended: dict[str, RunResult] = {}
    left: dict[str, Trainer] = {}
    with released_on_error(left):
        for name, (config, given) in taken.items():
            opened = _open(paths[name], config, MemberDisplay(display, name), shared, given, called, on_held, until)
            if isinstance(opened, RunResult):
                ended[name] = opened
            else:
                left[name] = opened
    results = ended | run_together(left, display, list(taken))
    return {path: results[name] for name, path in paths.items()}


def _open(
    path: Path,
    config: TrainConfig,
    display: Display,
    shared: Shared | None,
    given: Given,
    callbacks: list[Callback],
    on_held: Callable[[Path], None],
    until: str | None = None,
) -> Trainer | RunResult:
    """Return what runs in a directory, its lock held from before anything is loaded, or how its run ended."""
    check_writable(path)
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    lock = RunLock(path)
    try:
        on_held(path)
        if (path / "config.yaml").exists():
            opened = reopen_run(path, config, display, shared, given, callbacks, until, lock)
        else:
            opened = start_run(config, prepare_run(config, path, display, shared, given), path, shared, callbacks, lock)
    except BaseException:
        lock.release()
        if made and not any(path.iterdir()):
            path.rmdir()
        raise
    return opened
