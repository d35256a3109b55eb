"""Attempts as jobs, by submitit's executor of this machine; scripts/check_slurm.py has a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from balrl.errors import UserError
from balrl.sweep.on_slurm import SlurmJobs
from balrl.sweep.work import work
from balrl.watch.display import Display
from tests.run.test_run_or_resume import assert_equal
from tests.sweep.small import SETTINGS, small_sweep

pytest.importorskip("submitit")
ALONE = {"seeds": [0], "presets": {"IQL": {"preset": "iql/point-maze"}}}


@pytest.mark.slow
def test_a_job_that_is_preempted_saves_and_goes_on(tmp_path: Path) -> None:
    longer = {**SETTINGS, "pretrain.updates": 4_000, "pretrain.eval_every": 4_000, "checkpoint.every": 1_000_000}
    folder, whole = (small_sweep(tmp_path / name, **ALONE, settings=longer) for name in ("jobs", "whole"))
    [name] = folder.plan
    jobs = SlurmJobs(folder, cluster="local")
    preempted: list[int] = []

    def preempt() -> None:
        if not preempted and (folder.run_dir(name) / "metrics.jsonl").exists():
            preempted.append(1)
            os.kill(int(folder.standing(name).holder.split()[1]), signal.SIGUSR2)  # as Slurm does

    assert jobs.run(preempt)
    assert preempted
    assert folder.standing(name).state == "finished"
    assert folder.standing(name).history.attempts == 2
    assert work(whole, Display())
    assert_equal(folder.run_dir(name), whole.run_dir(name))


@pytest.mark.slow
def test_what_starts_from_another_run_comes_after_it(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds=[0])
    assert SlurmJobs(folder, cluster="local").run(lambda: None)
    assert {s.state for s in folder.standings().values()} == {"finished"}
    assert {s.history.attempts for s in folder.standings().values()} == {1}


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(UserError, match="there is no Slurm on this machine: ") as caught:
            SlurmJobs(folder)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"--executor slurm needs submitit: pip install 'balrl\[slurm\]'"):
        SlurmJobs(folder)


def test_a_job_counts_as_over_only_when_the_controller_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no part of an array has no index there; a controller that is busy says nothing."""
    jobs = SlurmJobs(small_sweep(tmp_path / "sweep", **ALONE), cluster="local")
    jobs._cluster = "slurm"
    answers = [(1, ""), (0, "123_N/A RUNNING\n124_0 PENDING\n124_1 COMPLETED\n")]

    def squeue(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        code, text = answers.pop(0)
        return subprocess.CompletedProcess([], code, text)

    monkeypatch.setattr("balrl.sweep.on_slurm.subprocess.run", squeue)

    def is_over(name: str) -> bool:
        paths = SimpleNamespace(result_pickle=tmp_path / "none")
        return jobs._is_over(SimpleNamespace(job_id=name, paths=paths))

    assert not is_over("124_1")
    assert not is_over("123")
    assert [is_over(name) for name in ("124_0", "124_1", "125")] == [False, True, True]
