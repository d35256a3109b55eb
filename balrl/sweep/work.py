"""Working on a sweep: one attempt, and attempt after attempt until nothing is left."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence

from balrl.errors import EnvironmentFault, UserError, first_line
from balrl.run.presets import TrainConfig
from balrl.run.run_lock import LockHeld
from balrl.run.run_or_resume import run_or_resume, run_or_resume_together
from balrl.run.start_and_resume import read_run_config
from balrl.sweep.folder import SweepFolder
from balrl.watch.display import Display, MemberDisplay

PAUSE = 2.0
"""Seconds between looks whether there is something to do again."""


def attempt(folder: SweepFolder, names: Sequence[str], display: Display) -> str:
    """Run or resume one run, or several as a population, in this process.

    Args:
        folder: of the sweep.
        names: of the runs.
        display: told what is going on.

    Returns:
        ``finished``; ``stopped``, saved after an interruption; ``busy``, somebody else is at it; ``failed``; or
        ``hopeless``, after a mistake in configuration or data or a divergence, which another try would repeat. It is
        written down for every run.
    """
    attempts = [folder.attempts(name) for name in names]
    for one in attempts:
        one.begin()
    error = ""
    try:
        runs = {folder.run_dir(name): _config(folder, name) for name in names}
        if len(runs) == 1:
            [(path, config)] = runs.items()
            results = [run_or_resume(path, config, MemberDisplay(display, path.name))]
        else:
            results = list(run_or_resume_together(runs, display).values())
        diverged = any(result.summary["outcome"] == "diverged" for result in results)
        outcome = "finished" if all(result.finished for result in results) else "hopeless" if diverged else "stopped"
        error = "it diverged" if diverged else ""
    except LockHeld:
        outcome = "busy"
    except UserError as found:
        outcome, error = "failed" if isinstance(found, EnvironmentFault) else "hopeless", first_line(found)
    except Exception as found:
        traceback.print_exc()
        outcome, error = "failed", f"{type(found).__name__}: {first_line(found)}"
    for one in attempts:
        one.end(outcome, error)
    if error:
        display.notice(f"{', '.join(names)}: {error}")
    return outcome


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
        if opened and all(s.state in ("open", "finished", "set aside") for s in standings.values()):
            return opened
        left |= any(s.state in ("open", "running", "waiting") for s in standings.values())
    return [] if left else None


def work(folder: SweepFolder, display: Display, pack: int = 1) -> bool:
    """Make attempts until every run is finished or set aside; return False if interrupted before.

    Args:
        folder: of the sweep.
        display: told what is going on.
        pack: seeds that are trained together, as one population.
    """
    packs = folder.packs(pack)
    while True:
        names = next_pack(folder, packs)
        if names is None:
            return True
        if names:
            outcome = attempt(folder, names, display)
            if outcome == "stopped":
                return False
        if not names or outcome == "busy":
            time.sleep(PAUSE)
