from __future__ import annotations

import json
from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.run.run_lock import RunLock
from balrl.sweep.folder import FILE, SweepFolder, begin_sweep, open_sweep
from tests.sweep.small import SWEEP, small_sweep, spec


def finish(folder: SweepFolder, name: str) -> None:
    folder.run_dir(name).mkdir(parents=True, exist_ok=True)
    (folder.run_dir(name) / "summary.json").write_text(json.dumps({"finished": True}))


def states(folder: SweepFolder) -> list[str]:
    return [standing.state for standing in folder.standings().values()]


def test_where_runs_stand(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", retry=2)
    parent, other, child, alone, *_ = folder.plan
    assert states(folder) == ["open", "open", "waiting", "open", "waiting", "open"]
    folder.run_dir(parent).mkdir(parents=True)
    lock = RunLock(folder.run_dir(parent))
    assert folder.standing(parent).state == "running"
    assert folder.standing(parent).holder.startswith("process ")
    lock.release()
    finish(folder, parent)
    assert folder.standing(parent).state == "finished"
    assert folder.standing(child).state == "open"
    for _ in range(2):
        folder.attempts(other).begin()
        folder.attempts(other).end("failed", "nothing works")
    assert folder.standing(other).state == "set aside"
    assert states(folder) == ["finished", "set aside", "open", "open", "set aside", "open"]
    folder.attempts(alone).begin()
    folder.attempts(alone).end("hopeless", "a mistake")
    assert folder.standing(alone).state == "set aside"


def test_it_is_opened_again_as_it_was_and_made_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_sweep(tmp_path / "sweep")
    monkeypatch.chdir(tmp_path)
    again = open_sweep(Path("sweep"), retry=5)
    assert (list(again.plan), again.root, again.retry) == (list(first.plan), first.root, 5)
    assert set(first.plan) < set(small_sweep(tmp_path / "sweep", seeds="0:3").plan)
    assert len(open_sweep(Path("sweep")).plan) == 9


def test_another_version_is_refused_and_both_are_named(tmp_path: Path) -> None:
    small_sweep(tmp_path / "sweep")
    file = tmp_path / "sweep" / FILE
    file.write_text(file.read_text().replace("balrl: ", "balrl: 9.", 1))
    with pytest.raises(UserError, match=r"was begun with balrl 9\.0\.1\.0, this is balrl 0\.1\.0"):
        open_sweep(tmp_path / "sweep")
    with pytest.raises(UserError, match="was begun with balrl"):
        small_sweep(tmp_path / "sweep")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else than a sweep"):
        begin_sweep(tmp_path, spec(), SWEEP)
    with pytest.raises(UserError, match="is no sweep: it has no sweep"):
        open_sweep(tmp_path)


def test_packs_are_of_runs_that_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds="0:5")
    assert sorted(len(pack) for pack in folder.packs(1)) == [1] * 15
    packs = folder.packs(2)
    assert sorted(len(pack) for pack in packs) == [1] * 3 + [2] * 6
    for pack in packs:
        assert len({(folder.plan[name].labels["preset"], folder.plan[name].is_parent) for name in pack}) == 1
    assert packs[0] == list(folder.plan)[:2]
    assert [name for pack in packs for name in pack if folder.plan[name].is_parent] == list(folder.plan)[:5]


def test_modules_of_the_users_are_asked_for_again_but_not_to_look(tmp_path: Path) -> None:
    begin_sweep(tmp_path / "sweep", spec(), SWEEP, imports=["no_such_module"])
    with pytest.raises(UserError, match="was made with --import no_such_module: name it again"):
        open_sweep(tmp_path / "sweep")
    assert len(open_sweep(tmp_path / "sweep", looks=True).plan) == 6
