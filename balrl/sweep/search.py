"""Trials that Optuna proposes, each judged by the mean over all its seeds; its file storage is resumed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balrl.checkpoint import write_text
from balrl.errors import UserError, first_line
from balrl.evaluation import bootstrap_interval
from balrl.report.runs import read_evaluations
from balrl.run.presets import dump_config
from balrl.run.run_lock import RunLock
from balrl.sweep.folder import SweepFolder, TrialRuns
from balrl.sweep.spec import Axis, Range, SearchConfig

JOURNAL, WINNER = "optuna.log", "winner.yaml"


@dataclass(frozen=True)
class Trial:
    """What was tried.

    Attributes:
        number: Optuna's.
        values: of the settings.
        scores: one per seed that was run, averaged over datasets and tasks.
        state: ``running``, ``complete``, ``pruned`` or ``fail``.
    """

    number: int
    values: dict[str, Any]
    scores: list[float]
    state: str

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return float(np.mean(self.scores)) if self.scores else -np.inf


class Search:
    """Asks for values, has them run, and tells what came of it.

    A driver that is started again goes on with the trials that were running: their runs have the same names. Seeds are
    run all at once, or one after another where a pruner may give a trial up in between.

    Args:
        folder: of a sweep with ``search``.

    Raises:
        UserError: when Optuna is not installed.
    """

    def __init__(self, folder: SweepFolder) -> None:
        assert folder.spec.search is not None
        self.folder, self.config = folder, folder.spec.search
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UserError(f"search needs Optuna: pip install 'balrl[optuna]' ({first_line(error)})") from error
        self.optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            study_name="balrl",
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder.path / JOURNAL))),
            pruner=_pruner(optuna, self.config),
            direction="maximize",
            load_if_exists=True,
        )
        self.study.sampler = _sampler(optuna, self.config, len(self.study.get_trials(deepcopy=False)))

    def run(self, work: Callable[[], bool], tell: Callable[[str], None]) -> bool:
        """Try until all trials are over; return False if that was interrupted.

        Args:
            work: makes the runs that are planned; returns False if it was interrupted.
            tell: told what came of every trial, in a line.

        Raises:
            LockHeld: when another driver searches there.
        """
        lock = RunLock(self.folder.path)  # who proposes; any number may work
        try:
            return self._run(work, tell)
        finally:
            lock.release()

    def _run(self, work: Callable[[], bool], tell: Callable[[str], None]) -> bool:
        running = self.optuna.trial.TrialState.RUNNING
        for begun in self.study.get_trials(deepcopy=False, states=(running,)):
            if begun.params.keys() != self.folder.spec.axes.keys():  # killed while it was asked for
                self.study.tell(begun.number, state=self.optuna.trial.TrialState.FAIL)
        while True:
            asked = self.study.get_trials(deepcopy=False, states=(running,))
            while len(asked) < self.config.batch and len(self.study.get_trials(deepcopy=False)) < self.config.trials:
                self._ask()
                asked = self.study.get_trials(deepcopy=False, states=(running,))
            if not asked:
                return True
            active = [self.optuna.trial.Trial(self.study, trial._trial_id) for trial in asked]
            runs = [TrialRuns(self._values(trial.params), self._due(trial)) for trial in active]
            self.folder.set_trials(runs)
            if not work():
                return False
            for trial, planned in zip(active, runs, strict=True):
                line = self._judge(trial, planned)
                if line:
                    tell(line)

    def trials(self) -> list[Trial]:
        """Return what was tried so far, the best first."""
        found = [
            Trial(t.number, self._values(t.params), t.user_attrs.get("scores", []), t.state.name.lower())
            for t in self.study.get_trials(deepcopy=False)
        ]
        return sorted(found, key=lambda t: (t.state == "complete", t.mean), reverse=True)

    def write_winner(self) -> Path | None:
        """Write the configuration of the best trial, and return its file; None if none is complete."""
        best = next((trial for trial in self.trials() if trial.state == "complete"), None)
        if best is None:
            return None
        plan = self.folder.planned(TrialRuns(best.values, self.folder.spec.seeds[:1]))
        config = next(p.config for p in plan.values() if not p.is_parent)
        low, high = bootstrap_interval([best.scores], np.mean) if len(best.scores) > 1 else (best.mean, best.mean)
        complete = sum(trial.state == "complete" for trial in self.trials())
        lines = [
            f"# The best of {complete} complete trials of {self.config.engine} ({self.config.sampler}): "
            f"{self.config.metric} score {best.mean:.1f} [{low:.1f}, {high:.1f}] over {len(best.scores)} seeds.",
            "# The best of many looks better than it is: judge it on other seeds.",
            *(f"# {key}: {value}" for key, value in best.values.items()),
        ]
        file = self.folder.path / WINNER
        write_text(file, "\n".join(lines) + "\n" + dump_config(config))
        return file

    def _ask(self) -> None:
        trial = self.study.ask()
        for key, axis in self.folder.spec.axes.items():
            _suggest(trial, key, axis)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial; what is one of a list is kept as JSON, as Optuna takes no lists."""
        axes = self.folder.spec.axes
        known = {key: value for key, value in params.items() if key in axes}
        return {
            key: _plain(value) if isinstance(axes[key], Range) else json.loads(value) for key, value in known.items()
        }

    def _due(self, trial: Any) -> tuple[int, ...]:
        seeds = self.folder.spec.seeds
        return seeds if self.config.pruner == "none" else seeds[: len(trial.user_attrs.get("scores", [])) + 1]

    def _judge(self, trial: Any, planned: TrialRuns) -> str:
        """Tell Optuna how a trial stands, and return a line if it is over."""
        states = self.optuna.trial.TrialState
        scores = self._scores(planned)
        if scores is None:
            self.study.tell(trial.number, state=states.FAIL, skip_if_finished=True)
            return f"trial {trial.number} failed: {planned.values}"
        trial.set_user_attr("scores", scores)
        over = len(scores) == len(self.folder.spec.seeds)
        if self.config.pruner == "median":
            trial.report(float(np.mean(scores)), len(scores))
        elif self.config.pruner == "wilcoxon":
            trial.report(scores[-1], len(scores))
        if over:
            self.study.tell(trial.number, float(np.mean(scores)), skip_if_finished=True)
            return f"trial {trial.number}: {np.mean(scores):.1f} over {len(scores)} seeds: {planned.values}"
        if trial.should_prune():
            self.study.tell(trial.number, state=states.PRUNED, skip_if_finished=True)
            mean = f"{np.mean(scores):.1f} after {len(scores)} seeds"
            return f"trial {trial.number} was given up at {mean}: {planned.values}"
        return ""

    def _scores(self, planned: TrialRuns) -> list[float] | None:
        """Return a score for every seed; None if one of the runs was set aside."""
        found: dict[int, list[float]] = {seed: [] for seed in planned.seeds}
        for name, run in self.folder.planned(planned).items():
            if not self.folder.is_finished(name):
                return None
            if not run.is_parent:
                found[run.config.seed].append(score_of(self.folder.run_dir(name), self.config.metric))
        return [float(np.mean(scores)) for scores in found.values()]


def score_of(run_dir: Path, metric: str) -> float:
    """Return the score of a run's last or best evaluation."""
    scores = [float(record["score"]) for record in read_evaluations(run_dir / "evaluations.json")]
    return scores[-1] if metric == "final" else max(scores)


def _suggest(trial: Any, key: str, axis: Axis) -> None:
    if isinstance(axis, Range) and axis.whole:
        trial.suggest_int(key, int(axis.low), int(axis.high), log=axis.log)
    elif isinstance(axis, Range):
        trial.suggest_float(key, axis.low, axis.high, log=axis.log)
    else:
        values: Sequence[Any] = axis if isinstance(axis, list) else axis.choices
        trial.suggest_categorical(key, [json.dumps(value) for value in values])


def _sampler(optuna: Any, config: SearchConfig, before: int) -> Any:
    """Return a sampler that does not begin with the same draws again, however many trials there were before."""
    kinds = {"tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "random": "RandomSampler"}
    return getattr(optuna.samplers, kinds[config.sampler])(seed=config.seed + before)


def _pruner(optuna: Any, config: SearchConfig) -> Any:
    kinds = {"none": "NopPruner", "median": "MedianPruner", "wilcoxon": "WilcoxonPruner"}
    with warnings.catch_warnings():  # Wilcoxon's has been called experimental for years
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return getattr(optuna.pruners, kinds[config.pruner])()


def _plain(value: float) -> float:
    """Return a number with six digits, as those of a sweep's own samples."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
