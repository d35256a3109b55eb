"""Working on a sweep: one attempt, and attempt after attempt until nothing is left."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from balrl.errors import EnvironmentFault, UserError, first_line
from balrl.run.interrupts import Interrupted
from balrl.run.presets import TrainConfig
from balrl.run.run_lock import LockHeld, LockLost
from balrl.run.run_or_resume import run_or_resume, run_or_resume_together
from balrl.run.start_and_resume import RunResult, read_run_config
from balrl.sweep.folder import SweepFolder
from balrl.watch.display import Display, MemberDisplay

PAUSE = 2.0
"""Seconds between looks whether there is something to do again."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of storage that no run is to blame for."""


def attempt(folder: SweepFolder, names: Sequence[str], display: Display) -> str:
    """Run or resume one run, or several as a population, in this process.

    Args:
        folder: of the sweep.
        names: of the runs.
        display: told what is going on.

    Returns:
        ``finished``; ``stopped``, saved after an interruption; ``busy``, somebody else is at it; ``failed``; or
        ``hopeless``, after a mistake in configuration or data or a divergence, which another try would repeat. It is
        written down for every run that this process held.

    Raises:
        OSError: when nothing more can be written.
    """
    begun: list[str] = []

    def begin(path: Path) -> None:
        folder.attempts(path.name).begin()
        begun.append(path.name)

    def end(outcome: str, error: str = "", of: Sequence[str] = names) -> str:
        for name in of:
            if name not in begun:
                folder.attempts(name).begin()
            folder.attempts(name).end(outcome, error)
        if error:
            display.notice(f"{', '.join(of)}: {error}")
        return outcome

    try:
        results = _run(folder, names, display, begin)
    except (LockHeld, LockLost):
        return "busy"
    except KeyboardInterrupt:
        end("stopped", of=begun)
        raise
    except UserError as error:
        # of several, who knows whose it is: they are tried one by one
        return end("failed" if isinstance(error, EnvironmentFault) or len(names) > 1 else "hopeless", first_line(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        traceback.print_exc()
        return end("failed", f"{type(error).__name__}: {first_line(error)}")
    outcomes = set()
    for path, result in results.items():
        diverged = result.summary["outcome"] == "diverged"
        outcome = "finished" if result.finished else "hopeless" if diverged else "stopped"
        outcomes.add(end(outcome, "it diverged" if diverged else "", of=[path.name]))
    return next(iter(outcomes)) if len(outcomes) == 1 else "stopped" if "stopped" in outcomes else "finished"


def _run(
    folder: SweepFolder, names: Sequence[str], display: Display, begin: Callable[[Path], None]
) -> dict[Path, RunResult]:
    runs = {folder.run_dir(name): _config(folder, name) for name in names}
    if len(runs) > 1:
        return run_or_resume_together(runs, display, on_held=begin)
    [(path, config)] = runs.items()
    return {path: run_or_resume(path, config, MemberDisplay(display, path.name), on_held=begin)}


def _config(folder: SweepFolder, name: str) -> TrainConfig:
    """Return what a run was begun with, whose paths may be another machine's, or what it is to begin with."""
    path = folder.run_dir(name)
    return read_run_config(path) if (path / "config.yaml").exists() else folder.plan[name].config


def next_pack(folder: SweepFolder, packs: list[list[str]]) -> list[str] | None:
    """Return the first runs that can be worked on; none if all wait or are held; None if nothing is left to do."""
    left = False
    for pack in packs:
        standings = folder.standings(pack)
        opened = [name for name, standing in standings.items() if standing.state == "open"]
        doubtful = [name for name in opened if standings[name].history.failures]
        if doubtful:
            return doubtful[:1]  # alone, so that it takes no other down with it
        if opened and all(s.state in ("open", "finished", "set aside") for s in standings.values()):
            return opened
        left |= any(s.state in ("open", "running", "waiting") for s in standings.values())
    return [] if left else None


class Unwell(Exception):
    """An attempt failed for a reason that this process may carry into the next one."""


def work(folder: SweepFolder, display: Display, pack: int = 1, leaves: bool = False) -> bool:
    """Make attempts until every run is finished or set aside; return False if interrupted before.

    Args:
        folder: of the sweep.
        display: told what is going on.
        pack: seeds that are trained together, as one population.
        leaves: give up this process after a failure, for another to take its place.

    Raises:
        Unwell: after a failure, if the process `leaves`.
        OSError: when nothing more can be written.
    """
    packs, Interrupted.asked = folder.packs(pack), False
    while True:
        names = next_pack(folder, packs)
        if names is None:
            return True
        if names:
            outcome = attempt(folder, names, display)
            if outcome == "stopped" or Interrupted.asked:
                return False
            if outcome == "failed" and leaves:
                raise Unwell
        if not names or outcome == "busy":
            time.sleep(PAUSE)
