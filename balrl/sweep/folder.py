"""The folder of a sweep: what is to be run, and where each run stands. Nothing else knows more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from balrl.checkpoint import write_json, write_text
from balrl.errors import UserError
from balrl.foreign import fields, read_json
from balrl.plain_yaml import dump_yaml, read_config_file
from balrl.run.imports import check_imported
from balrl.run.run_lock import holder_of
from balrl.run.start_and_resume import check_writable
from balrl.run.summary import versions
from balrl.settings import validate
from balrl.sweep.attempts import Attempts, History
from balrl.sweep.plan import Planned, make_plan
from balrl.sweep.spec import SweepConfig

FILE, TRIALS = "sweep.yaml", "trials.json"
VERSION = versions()["balrl"]
State = Literal["finished", "running", "open", "waiting", "set aside"]


@dataclass(frozen=True)
class Standing:
    """Where one run stands.

    Attributes:
        state: ``waiting`` is for the run that it starts from; ``set aside`` failed too often, or its parent did.
        history: of its attempts.
        holder: who is at it.
    """

    state: State
    history: History = field(default_factory=History)
    holder: str = ""


class TrialRuns(NamedTuple):
    """What a search has run: values of settings, and seeds."""

    values: dict[str, Any]
    seeds: tuple[int, ...]


class SweepFolder:
    """A sweep's folder: ``sweep.yaml``, ``runs/NAME``, ``attempts/NAME.jsonl``, ``logs``.

    Any number of processes on any number of machines that share it may work on it: a run directory's lock says who is
    at a run, ``summary.json`` that it is finished.

    Args:
        path: of the folder.
        spec: of the sweep.
        root: folder that its relative paths are looked up in.
        retry: failures in a row after which a run is set aside.
        imports: modules that every run imports first.
        plan: the runs that matter here; by default, all that the sweep has.
    """

    def __init__(
        self,
        path: Path,
        spec: SweepConfig,
        root: Path,
        retry: int = 3,
        imports: Sequence[str] = (),
        plan: dict[str, Planned] | None = None,
    ) -> None:
        self.path, self.spec, self.root = path.resolve(), spec, root
        self.retry, self.imports = retry, tuple(imports)
        self.plan: dict[str, Planned] = plan or {}
        self._finished: set[str] = set()
        if plan is not None:
            return
        if spec.search is None:
            self.plan = make_plan(spec, self.path / "runs", root, self.imports)
        elif (self.path / TRIALS).exists():
            for one in read_json(self.path / TRIALS, list):
                self.plan |= self.planned(TrialRuns(one["values"], tuple(one["seeds"])))

    def planned(self, trial: TrialRuns) -> dict[str, Planned]:
        """Return the runs of a search's trial."""
        spec = self.spec.model_copy(update={"seeds": tuple(trial.seeds)})
        return make_plan(spec, self.path / "runs", self.root, self.imports, [trial.values])

    def set_trials(self, trials: Sequence[TrialRuns]) -> None:
        """Let the runs of some trials be all that is to be done, here and for whoever opens the folder."""
        self.plan = {name: run for trial in trials for name, run in self.planned(trial).items()}
        write_json(self.path / TRIALS, [trial._asdict() for trial in trials])

    def run_dir(self, name: str) -> Path:
        """Return where a run is."""
        return self.path / "runs" / name

    def attempts(self, name: str) -> Attempts:
        """Return what is written down of the attempts at a run."""
        return Attempts(self.path / "attempts" / f"{name}.jsonl", self.run_dir(name))

    def is_finished(self, name: str) -> bool:
        """Whether a run has ended well. That does not change again."""
        if name not in self._finished:
            file = self.run_dir(name) / "summary.json"
            if file.exists() and read_json(file, dict).get("finished"):
                self._finished.add(name)
        return name in self._finished

    def standing(self, name: str) -> Standing:
        """Return where a run stands."""
        if self.is_finished(name):
            return Standing("finished", self.attempts(name).history(False))
        holder = holder_of(self.run_dir(name))
        history = self.attempts(name).history(holder is not None)
        if holder:
            return Standing("running", history, holder)
        if history.failures >= self.retry or history.is_hopeless:
            return Standing("set aside", history)
        parent = self.plan[name].parent
        if parent is not None and not self.is_finished(parent):
            state = self.standing(parent).state if parent in self.plan else "waiting"
            return Standing("set aside" if state == "set aside" else "waiting", history)
        return Standing("open", history)

    def standings(self, names: Iterable[str] | None = None) -> dict[str, Standing]:
        """Return where every run stands, or each of some."""
        return {name: self.standing(name) for name in (self.plan if names is None else names)}

    def packs(self, size: int) -> list[list[str]]:
        """Return the runs in their order, those that differ in their seeds alone in packs of up to `size`."""
        groups: dict[str, list[list[str]]] = {}
        for name, planned in self.plan.items():
            alike = planned.config.model_copy(update={"seed": 0, "init": type(planned.config.init)()})
            packs = groups.setdefault(f"{planned.parent is None} {alike.model_dump_json()}", [[]])
            if len(packs[-1]) == size:
                packs.append([])
            packs[-1].append(name)
        order = {name: index for index, name in enumerate(self.plan)}
        return sorted((pack for packs in groups.values() for pack in packs), key=lambda pack: order[pack[0]])


def begin_sweep(path: Path, spec: SweepConfig, given: Mapping[str, Any], **options: Any) -> SweepFolder:
    """Make a sweep's folder, or take up the one that is there, and write down what it is.

    A sweep may be made larger or smaller: runs that are asked for before and after keep their names.

    Args:
        path: of the folder.
        spec: what is asked for.
        given: as the person wrote it.
        options: of `SweepFolder`.

    Raises:
        UserError: when the folder cannot be written to, or another version of balrl made it.
    """
    check_writable(path)
    if (path / FILE).exists():
        _check_version(path)
    elif path.exists() and any(path.iterdir()):
        raise UserError(f"'{path}' holds something else than a sweep: choose another --out")
    folder = SweepFolder(path, spec, Path.cwd(), **options)
    (path / "logs").mkdir(parents=True, exist_ok=True)
    (path / "runs").mkdir(exist_ok=True)
    write_text(
        path / FILE,
        dump_yaml({"balrl": VERSION, "root": os.getcwd(), "imports": list(folder.imports), "sweep": dict(given)}),
    )
    return folder


def open_sweep(path: Path, looks: bool = False, **options: Any) -> SweepFolder:
    """Return the sweep that stands in a folder.

    Args:
        path: of the folder.
        looks: whether it is only to be looked at, for which no module of the user's is needed.
        options: of `SweepFolder`.

    Raises:
        UserError: when there is none, or another version of balrl made it.
    """
    data = _check_version(path)
    if not looks:
        check_imported(data.get("imports", []), f"'{path}'")
    return SweepFolder(path, validate(SweepConfig, data["sweep"], f"'{path / FILE}'"), Path(data["root"]), **options)


def _check_version(path: Path) -> dict[str, Any]:
    if not (path / FILE).is_file():
        raise UserError(f"'{path}' is no sweep: it has no {FILE}; begin one with balrl sweep SWEEP.yaml --out {path}")
    data = fields(read_config_file(path / FILE), {"balrl": str, "root": str, "sweep": dict}, f"'{path / FILE}'")
    check_version(data["balrl"], f"'{path}'")
    return data


def check_version(theirs: str, whose: str) -> None:
    """Raise a `UserError` if a sweep was made with another version of balrl than this."""
    if theirs != VERSION:
        raise UserError(
            f"{whose} was begun with balrl {theirs}, this is balrl {VERSION}: a run is gone on with by the "
            "version that began it; install that one, or begin another sweep"
        )
