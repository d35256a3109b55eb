from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from balrl.errors import EnvironmentFault, UserError
from balrl.run.run_lock import RunLock
from balrl.sweep import work as module
from balrl.sweep.work import Unwell, attempt, next_pack, work
from balrl.watch.callbacks import Status
from balrl.watch.display import Display
from tests.run.small import Interrupt, Listening
from tests.run.test_run_or_resume import assert_equal
from tests.sweep.small import small_sweep


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)


def test_all_is_run_what_others_start_from_first(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds=[0])
    assert work(folder, Display())
    assert {s.state for s in folder.standings().values()} == {"finished"}
    assert {s.history.attempts for s in folder.standings().values()} == {1}
    assert work(folder, Display())
    assert {s.history.attempts for s in folder.standings().values()} == {1}, "finished is finished"


def test_stopped_and_gone_on_with_it_is_the_same_sweep(tmp_path: Path) -> None:
    whole, cut = (
        small_sweep(tmp_path / name, seeds=[0], presets={"IQL": {"preset": "iql/point-maze"}}) for name in "ab"
    )
    assert work(whole, Display())
    assert not work(cut, Interrupt(30, crash=False))
    assert work(cut, Interrupt(40, crash=True))
    [name] = cut.plan
    assert cut.standing(name).history.attempts == 3
    assert_equal(cut.run_dir(name), whole.run_dir(name))


def test_seeds_of_a_pack_share_their_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    real = module.run_or_resume_together

    def counted(runs: Any, *rest: Any, **more: Any) -> Any:
        together.append(len(runs))
        return real(runs, *rest, **more)

    monkeypatch.setattr(module, "run_or_resume_together", counted)
    folder = small_sweep(tmp_path / "sweep")
    assert work(folder, Display(), pack=2)
    assert together == [2, 2, 2]
    assert {s.state for s in folder.standings().values()} == {"finished"}


@pytest.mark.parametrize(
    ("error", "outcome", "tries"),
    [
        (RuntimeError("power"), "failed", 2),
        (EnvironmentFault("NaN"), "failed", 2),
        (MemoryError(), "failed", 2),
    ],
)
def test_what_fails_is_tried_again_and_then_set_aside(
    error: Exception, outcome: str, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "run_or_resume", fail)
    folder = small_sweep(tmp_path / "sweep", retry=2, seeds=[0], presets={"IQL": {"preset": "iql/point-maze"}})
    listening = Listening()
    assert work(folder, listening)
    [standing] = folder.standings().values()
    assert (standing.state, standing.history.attempts) == ("set aside", tries)
    assert standing.history.error
    assert standing.history.error in listening.heard


def test_a_mistake_is_not_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    presets = {"IQL": {"preset": "iql/point-maze"}, "lost": {"preset": "iql/point-maze", "dataset": "nowhere.hdf5"}}
    folder = small_sweep(tmp_path / "sweep", seeds=[0], presets=presets)
    assert work(folder, Display())
    good, lost = (folder.standing(name) for name in folder.plan)
    assert good.state == "finished"
    assert (lost.state, lost.history.attempts) == ("set aside", 1)
    assert "nowhere.hdf5" in lost.history.error


def test_what_somebody_else_is_at_is_waited_for(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds=[0], presets={"IQL": {"preset": "iql/point-maze"}})
    [name] = folder.plan
    folder.run_dir(name).mkdir(parents=True)
    lock = RunLock(folder.run_dir(name))
    assert next_pack(folder, [[name]]) == []
    assert attempt(folder, [name], Display()) == "busy"
    lock.release()
    assert next_pack(folder, [[name]]) == [name]
    assert attempt(folder, [name], Display()) == "finished"
    assert next_pack(folder, [[name]]) is None


def test_a_run_that_another_took_over_is_left_to_it(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds=[0], presets={"IQL": {"preset": "iql/point-maze"}})
    [name] = folder.plan

    class TakenOver(Display):
        def on_step(self, status: Status) -> None:
            if status.step == 6:
                (status.run_dir / ".lock").write_text('{"host": "elsewhere", "pid": 7}')

    assert attempt(folder, [name], TakenOver()) == "busy"
    assert folder.standing(name).state == "running"
    assert not folder.standing(name).history.is_hopeless


def test_one_member_of_a_pack_does_not_take_the_others_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one it was shows when they are tried one by one."""
    folder = small_sweep(tmp_path / "sweep", presets={"IQL": {"preset": "iql/point-maze"}})
    first, second = folder.plan

    def broken(*_: Any, **__: Any) -> None:
        raise UserError("a member's checkpoints are damaged")

    monkeypatch.setattr(module, "run_or_resume_together", broken)
    assert work(folder, Display(), pack=2)
    assert [folder.standing(name).state for name in (first, second)] == ["finished", "finished"]


def test_a_stop_that_came_while_a_run_ended_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_sweep(tmp_path / "sweep", presets={"IQL": {"preset": "iql/point-maze"}})

    def asked(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("balrl.run.pictures.draw_pictures", asked)
    assert not work(folder, Display())
    assert sorted(s.state for s in folder.standings().values()) == ["finished", "open"]


def test_a_full_disk_is_no_runs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "run_or_resume", full)
    folder = small_sweep(tmp_path / "sweep", seeds=[0], presets={"IQL": {"preset": "iql/point-maze"}})
    with pytest.raises(OSError, match="No space left"):
        work(folder, Display())
    assert {s.state for s in folder.standings().values()} == {"open"}


def test_a_process_that_failed_makes_room_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(module, "run_or_resume", fail)
    folder = small_sweep(tmp_path / "sweep", presets={"IQL": {"preset": "iql/point-maze"}})
    with pytest.raises(Unwell):
        work(folder, Display(), leaves=True)
    assert sum(s.history.failures for s in folder.standings().values()) == 1
