"""Trials over seeds; the runs are scores that are written down, not trained for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balrl.errors import UserError
from balrl.run.presets import load_config
from balrl.sweep.folder import SweepFolder, open_sweep
from balrl.sweep.search import JOURNAL, Search, score_of
from tests.sweep.small import small_sweep

pytest.importorskip("optuna")
VARY = {"agent.expectile": {"low": 0.5, "high": 0.99}, "agent.hidden": [[8, 8], [16, 16]]}


def searched(path: Path, **search: Any) -> SweepFolder:
    presets = {"IQL": {"preset": "iql/point-maze"}}
    return small_sweep(path, presets=presets, pretrain={}, seeds="0:4", vary=VARY, search={"trials": 6, **search})


def scoring(folder: SweepFolder, score: Callable[[float, int], float]) -> Callable[[], bool]:
    """Return what finishes every planned run with a score of its expectile and seed."""

    def work() -> bool:
        for name, run in folder.plan.items():
            path = folder.run_dir(name)
            path.mkdir(parents=True, exist_ok=True)
            record = {"step": 1, "env_steps": 1, "phase": "finetune"}
            last = score(run.config.agent.expectile, run.config.seed)
            scores = [{**record, "score": value} for value in (last + 1, last)]
            (path / "evaluations.json").write_text(json.dumps(scores))
            (path / "summary.json").write_text('{"finished": true}')
        return True

    return work


def test_the_best_mean_over_seeds_wins_and_is_written_as_a_configuration(tmp_path: Path) -> None:
    folder = searched(tmp_path / "sweep", batch=3)
    said: list[str] = []
    search = Search(folder)
    assert search.run(scoring(folder, lambda expectile, seed: 100 * expectile + seed), said.append)
    trials = search.trials()
    assert [trial.state for trial in trials] == ["complete"] * 6
    assert len(said) == 6
    assert "over 4 seeds" in said[0]
    best = max(trials, key=lambda trial: trial.values["agent.expectile"])
    assert trials[0] == best
    assert best.scores == pytest.approx([100 * best.values["agent.expectile"] + seed for seed in range(4)])
    winner = search.write_winner()
    assert winner is not None
    config = load_config(file=winner)
    assert config.agent.expectile == best.values["agent.expectile"]  # type: ignore[attr-defined]
    assert list(config.agent.hidden) == best.values["agent.hidden"]  # type: ignore[attr-defined]
    assert f"final score {best.mean:.1f} [" in winner.read_text().splitlines()[0]
    assert "The best of many looks better than it is" in winner.read_text()


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    folder = searched(tmp_path / "sweep", batch=2, sampler="random")
    rounds: list[list[str]] = []
    good = scoring(folder, lambda expectile, _: expectile)

    def until_the_second() -> bool:
        rounds.append(list(folder.plan))
        return good() if len(rounds) < 2 else False

    assert not Search(folder).run(until_the_second, print)
    again = open_sweep(tmp_path / "sweep")
    assert list(again.plan) == rounds[1], "whoever opens the folder works on the trials that are running"
    search = Search(again)
    resumed: list[list[str]] = []
    finish = scoring(again, lambda expectile, _: expectile)
    assert search.run(lambda: resumed.append(list(again.plan)) or finish(), print)
    assert resumed[0] == rounds[1], "the same runs, and no other values"
    assert len({json.dumps(trial.values) for trial in search.trials()}) == 6, "no value is proposed twice"
    assert search.run(lambda: pytest.fail("nothing is left"), print)


@pytest.mark.parametrize("pruner", ["median", "wilcoxon"])
def test_a_pruner_gives_up_what_is_worse_on_the_first_seeds(pruner: str, tmp_path: Path) -> None:
    presets = {"IQL": {"preset": "iql/point-maze"}}
    config = {"trials": 14, "batch": 1, "pruner": pruner, "sampler": "random"}
    folder = small_sweep(tmp_path / "s", presets=presets, pretrain={}, seeds="0:8", vary=VARY, search=config)
    search = Search(folder)
    assert search.run(scoring(folder, lambda expectile, seed: 100 * expectile + seed), print)
    trials = search.trials()
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(1 <= len(trial.scores) < 8 for trial in pruned)
    assert all(len(trial.scores) == 8 for trial in trials if trial.state == "complete")
    best = max(trials, key=lambda trial: trial.values["agent.expectile"])
    assert best.state == "complete"


def test_a_trial_whose_run_was_set_aside_has_failed(tmp_path: Path) -> None:
    folder = searched(tmp_path / "sweep", batch=6)
    work = scoring(folder, lambda expectile, _: expectile)

    def but_one() -> bool:
        work()
        (folder.run_dir(next(iter(folder.plan))) / "summary.json").write_text("{}")
        return True

    search = Search(folder)
    assert search.run(but_one, print)
    assert sorted(trial.state for trial in search.trials()) == ["complete"] * 5 + ["fail"]


def test_no_winner_without_a_complete_trial(tmp_path: Path) -> None:
    search = Search(searched(tmp_path / "sweep"))
    assert search.write_winner() is None
    assert (tmp_path / "sweep" / JOURNAL).exists()


def test_a_run_is_scored_by_its_last_or_its_best_evaluation(tmp_path: Path) -> None:
    records = [{"step": 1, "env_steps": 1, "phase": "finetune", "score": score} for score in (1.0, 3.0, 2.0)]
    (tmp_path / "evaluations.json").write_text(json.dumps(records))
    assert score_of(tmp_path, "final") == 2.0
    assert score_of(tmp_path, "best") == 3.0


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"search needs Optuna: pip install 'balrl\[optuna\]'"):
        Search(searched(tmp_path / "sweep"))
