"""The verb that runs many."""

from __future__ import annotations

import argparse
import math
import os
import time
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.cli.arguments import duration, non_negative, number, positive
from balrl.cli.console import make_console
from balrl.errors import EXIT_INTERRUPTED, UserError

if TYPE_CHECKING:
    from balrl.sweep.folder import SweepFolder
    from balrl.sweep.spec import SweepConfig

USAGE = """balrl sweep SWEEP.yaml --out DIR
       balrl sweep --preset PRESET … [--dataset DATA …] [--env ID …] [--seeds 0:8] [--vary KEY=VALUE,… …] [KEY=VALUE …] --out DIR
       balrl sweep DIR
       balrl sweep status DIR"""  # noqa: E501

BETWEEN_LOOKS = 2.0
"""Seconds between looks at what became of the runs."""


def add_sweep_verb(verbs: Any) -> None:
    """Add ``balrl sweep`` to the command line's verbs."""
    sweep = verbs.add_parser(
        "sweep", help="many runs that may be killed and begun again anywhere", usage=USAGE, allow_abbrev=False
    )
    sweep.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep, on storage that all workers share")
    made = sweep.add_argument_group("a small sweep without a file")
    made.add_argument("--preset", action="append", default=[], help="repeat for several")
    made.add_argument("--dataset", action="append", default=[], help="repeat for several")
    made.add_argument("--env", action="append", default=[], metavar="ID", help="repeat for several")
    made.add_argument("--seeds", help="0:8 for 0 to 7, or 0,3,11; default: 0")
    made.add_argument("--vary", action="append", default=[], metavar="KEY=VALUE,…", help="each with each")
    how = sweep.add_argument_group("how it is run")
    how.add_argument("--executor", choices=("local", "ray", "slurm"), default="local", help="default: local")
    how.add_argument("--jobs", type=positive, help="runs at a time; default: one a GPU, else one for two cores")
    how.add_argument("--pack", type=positive, default=1, metavar="K", help="train K seeds together, as a population")
    how.add_argument("--retry", type=positive, default=3, help="failures in a row that set a run aside; default: 3")
    how.add_argument("--again", action="store_true", help="try what was set aside again")
    how.add_argument("--max-hours", type=duration, help="then save and stop")
    how.add_argument("--dry-run", action="store_true", help="say what would be run")
    how.add_argument("--metric", choices=("final", "best", "drop", "regret"), default="final", help="of the comparison")
    where = sweep.add_argument_group("ray and slurm")
    where.add_argument("--address", help="of a Ray cluster; default: one on this machine, for as long as it is needed")
    where.add_argument("--cpus", type=duration, help="cores of a run; Ray takes fractions; default: 1")
    where.add_argument("--gpus", type=number, default=0.0, help="GPUs of a run; Ray takes fractions; default: 0")
    where.add_argument("--partition", help="of Slurm")
    where.add_argument("--minutes", type=positive, default=240, help="time limit of a Slurm job; default: 240")
    where.add_argument("--memory", metavar="GB", type=non_negative, default=0, help="of a Slurm job; default: Slurm's")
    sweep.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace, rest: list[str]) -> int:
    from balrl.sweep.status import look_at, said, status_table

    words = list(takewhile(lambda word: not word.startswith("--") and "=" not in word, rest))
    settings = rest[len(words) :]
    if words[:1] == ["status"]:
        folder = _opened(options, [Path(word) for word in words[1:]], looks=True)
        make_console().print(status_table(folder, look_at(folder)))
        return 0
    folder = _folder(options, [Path(word) for word in words], settings)
    if options.again:
        for name, standing in folder.standings().items():
            if standing.state == "set aside":
                folder.attempts(name).forget()
    if options.dry_run:
        for name, planned in folder.plan.items():
            print(f"{name}: {said(planned.labels)}")
        print(look_at(folder).line())
        return 0
    ended = _execute(folder, options)
    return _conclude(folder, options, ended)


def _folder(options: argparse.Namespace, what: list[Path], settings: list[str]) -> SweepFolder:
    from balrl.cli.train import parse_settings
    from balrl.sweep.folder import FILE, begin_sweep
    from balrl.sweep.spec import SweepConfig, read_sweep

    small = {"--preset": options.preset, "--dataset": options.dataset, "--env": options.env, "--vary": options.vary}
    small |= {"--seeds": options.seeds, "settings": settings}
    if what and (what[0].is_dir() or not what[0].suffix):
        named = [name for name, value in small.items() if value]
        if named or options.out is not None:
            raise UserError(f"'{what[0]}' has its own {FILE}: leave {', '.join(named) or '--out'} out")
        return _opened(options, what)
    if len(what) > 1:
        raise UserError(f"one sweep at a time; found {', '.join(map(str, what))}")
    if options.out is None:
        raise UserError("where to? pass --out DIR, a folder that all workers share")
    given: dict[str, Any] = {}
    if what:
        read_sweep(what[0])  # names mistakes by the file
        from balrl.plain_yaml import read_config_file

        given = read_config_file(what[0])
    elif not options.preset:
        raise UserError("what is to be run? pass SWEEP.yaml, or --preset PRESET")
    given = _with_options(given, options, parse_settings(settings))
    from balrl.settings import validate

    spec: SweepConfig = validate(SweepConfig, given, "your sweep")
    if options.dry_run:
        from balrl.sweep.folder import SweepFolder

        return SweepFolder(options.out, spec, Path.cwd(), options.retry, options.imported)
    return begin_sweep(options.out, spec, given, retry=options.retry, imports=options.imported)


def _with_options(given: dict[str, Any], options: argparse.Namespace, settings: dict[str, str]) -> dict[str, Any]:
    """Return a sweep with what the command line says in place of what the file says."""
    from balrl.plain_yaml import parse_yaml
    from balrl.run.members import parse_vary

    lists = {"presets": options.preset, "datasets": options.dataset, "envs": options.env}
    found = {**given, **{key: value for key, value in lists.items() if value}}
    if options.seeds:
        found["seeds"] = options.seeds
    if options.vary:
        found["vary"] = {
            key: [parse_yaml(value, f"--vary {key}") for value in values]
            for key, values in parse_vary(options.vary).items()
        }
    if settings:
        over = {key: parse_yaml(value, f"--{key}") for key, value in settings.items()}
        found["settings"] = {**found.get("settings", {}), **over}
    return found


def _opened(options: argparse.Namespace, what: list[Path], looks: bool = False) -> SweepFolder:
    from balrl.sweep.folder import open_sweep

    if len(what) != 1:
        raise UserError("which sweep? expected one folder: balrl sweep status DIR")
    return open_sweep(what[0], looks, retry=options.retry, imports=options.imported)


def _execute(folder: SweepFolder, options: argparse.Namespace) -> bool:
    """Work until nothing is left; return False if that was interrupted or the time was up."""
    until = time.monotonic() + options.max_hours * 3_600 if options.max_hours else None
    progress = Progress(folder)

    def work() -> bool:
        try:
            return bool(_executor(folder, options).run(progress.look, until))
        finally:
            progress.tell()  # what ended since the last look

    try:
        if folder.spec.search is None:
            return work()
        from balrl.sweep.search import Search

        return Search(folder).run(work, progress.say)
    except KeyboardInterrupt:
        return False


def _executor(folder: SweepFolder, options: argparse.Namespace) -> Any:
    jobs, pack = options.jobs, options.pack
    if options.executor == "ray":
        from balrl.sweep.on_ray import RayTasks

        return RayTasks(folder, options.address, jobs, pack, options.cpus or 1.0, options.gpus)
    if options.executor == "slurm":
        from balrl.sweep.on_slurm import SlurmJobs

        cpus, gpus = math.ceil(options.cpus or 1), math.ceil(options.gpus)
        return SlurmJobs(folder, jobs, pack, options.minutes, cpus, gpus, options.memory, options.partition)
    from balrl.sweep.local import LocalWorkers, visible_gpus

    found = visible_gpus()
    return LocalWorkers(folder, jobs or len(found) or max(1, len(os.sched_getaffinity(0)) // 2), pack, found)


class Progress:
    """Says what became of every run, as it does, and every minute how many there are left."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self.console = make_console()
        self._told: dict[str, str] = {name: s.state for name, s in folder.standings().items()}
        self._looked = self._counted = time.monotonic()
        self.say(f"{folder.path}: {self._line()}")

    def say(self, line: str) -> None:
        """Print a line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def look(self) -> None:
        """Say what is new, every few seconds at most."""
        if time.monotonic() - self._looked < BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        self.tell()
        if self._looked - self._counted > 60:
            self._counted = self._looked
            self.say(self._line())

    def tell(self) -> None:
        """Say what became of every run that ended since this was asked last."""
        for name in self.folder.plan:
            if self._told.get(name) in ("finished", "set aside"):
                continue
            standing = self.folder.standing(name)
            self._told[name] = standing.state
            if standing.state in ("finished", "set aside"):
                error = f": {standing.history.error}" if standing.state == "set aside" else ""
                self.say(f"{standing.state}: {name}{error}")

    def _line(self) -> str:
        from balrl.sweep.status import look_at

        return look_at(self.folder).line()


def _conclude(folder: SweepFolder, options: argparse.Namespace, ended: bool) -> int:
    """Compare what is finished, and say how to go on."""
    from balrl.cli.runs import write_comparison
    from balrl.report.runs import read_runs
    from balrl.sweep.status import look_at

    if folder.spec.search is not None and ended:
        return _conclude_search(folder)
    status = look_at(folder)
    finished = [n for n, p in folder.plan.items() if folder.is_finished(n) and not p.is_parent]
    if finished and not status.counts.keys() - {"finished", "set aside"}:
        targets = [folder.path / "compare.png", folder.path / "compare.csv"]
        write_comparison(read_runs([folder.run_dir(name) for name in finished]), options.metric, [], targets)
    failed = {name: s for name, s in status.standings.items() if s.state == "set aside"}
    if failed:
        print(f"{len(failed)} runs were set aside; try them again with: {_again(folder)} --again")
        return 1
    if not ended or status.counts.get("finished") != len(folder.plan):
        if options.executor == "slurm":
            print(
                f"Slurm's jobs go on without this: look at them with balrl sweep status {folder.path}, or scancel them"
            )
            return EXIT_INTERRUPTED
        print(f"stopped and saved: {status.line()}; go on with: {_again(folder)}")
        return EXIT_INTERRUPTED
    print(f"done: {folder.path}")
    return 0


def _again(folder: SweepFolder) -> str:
    """Return the command that goes on with a sweep."""
    return " ".join(["balrl sweep", str(folder.path), *(f"--import {name}" for name in folder.imports)])


def _conclude_search(folder: SweepFolder) -> int:
    """Show the trials, and write the winner."""
    from rich.table import Table

    from balrl.sweep.search import Search

    search = Search(folder)
    trials = search.trials()
    table = Table("trial", "state", "mean", "seeds", *folder.spec.axes)
    for trial in trials[:10]:
        values = (str(trial.values.get(key, "")) for key in folder.spec.axes)
        mean = f"{trial.mean:.1f}" if trial.scores else ""
        table.add_row(str(trial.number), trial.state, mean, str(len(trial.scores)), *values)
    make_console().print(table)
    winner = search.write_winner()
    if winner is None:
        print(f"no trial of {len(trials)} was completed; see balrl sweep status {folder.path}")
        return 1
    fresh = max(folder.spec.seeds) + 1
    print(f"wrote {winner}; judge it on seeds that did not choose it: balrl train --config {winner} seed={fresh}")
    return 0
