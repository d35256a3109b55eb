"""Folders of populations: killed at any moment, completed, resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.errors import UserError
from balrl.run.populations import begin_population, complete_population
from balrl.run.presets import load_config
from balrl.watch.display import Display
from tests.execution.test_lockstep import StopAt, assert_same_records, members


@pytest.mark.parametrize("preset", ["iql/point-maze", "calql/point-maze"])
@pytest.mark.parametrize("lost", ["newest", "all", "never begun"])
def test_killed_and_resumed_equals_not_killed_to_the_bit(
    preset: str, lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill strikes while members save, or begin, one after another: some are a checkpoint ahead of others."""
    settings = {"agent.sampled_actions": "2"} if preset.startswith("calql") else {}
    configs = members(preset, **settings)
    balrl.train_population(configs, tmp_path / "whole")
    with monkeypatch.context() as patch:
        balrl.train_population(configs, tmp_path / "cut", StopAt(57, patch))
    for path in list_checkpoints(tmp_path / "cut" / "s1")[: 1 if lost == "newest" else None]:
        shutil.rmtree(path)
    if lost == "never begun":
        shutil.rmtree(tmp_path / "cut" / "s1")
    assert all(result.finished for result in balrl.resume_population(tmp_path / "cut").values())
    for name in configs:
        one, other = (list_checkpoints(tmp_path / folder / name)[0] for folder in ("whole", "cut"))
        for group in ("agent", "optimizer", "replay"):
            tensors, expected = load_tensors(other, group), load_tensors(one, group)
            assert all(value.equal(tensors[key]) for key, value in expected.items())
        assert_same_records(tmp_path / "cut" / name, tmp_path / "whole" / name)


def test_the_last_one_left_gives_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three, two have ended: the third goes on in its row, to the bit."""
    balrl.train_population(members(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        balrl.train_population(members(), tmp_path / "cut", StopAt(57, patch))
    for name in ("s0", "s2"):
        shutil.rmtree(tmp_path / "cut" / name)
        shutil.copytree(tmp_path / "whole" / name, tmp_path / "cut" / name)
        (tmp_path / "cut" / name / "curves.png").touch()
        for path in list_checkpoints(tmp_path / "cut" / name)[1:]:
            shutil.rmtree(path)
    said: list[str] = []

    class Listens(Display):
        def notice(self, message: str) -> None:
            said.append(message)

    assert balrl.resume_population(tmp_path / "cut", Listens())["s1"].finished
    assert "stand at different steps" in said[0]
    one, other = (list_checkpoints(tmp_path / folder / "s1")[0] for folder in ("whole", "cut"))
    for group in ("agent", "optimizer"):
        tensors = load_tensors(other, group)
        assert all(value.equal(tensors[key]) for key, value in load_tensors(one, group).items())


def test_members_keep_their_order_and_with_it_their_rows(tmp_path: Path) -> None:
    config = load_config("iql/point-maze")
    names = [f"s{seed}" for seed in range(12)]
    begin_population(tmp_path, dict.fromkeys(names, config))
    assert [path.name for path in complete_population(tmp_path)] == names  # not s0, s1, s10, s11, s2
    assert all(load_config(file=tmp_path / name / "config.yaml") == config for name in names)


def test_members_are_free_again_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process too, which lives on: neither a second member's start nor a lack of memory keeps the locks."""

    def fails(*_: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("balrl.execution.population.Population.__init__", fails)
        with pytest.raises(MemoryError, match="no room"):
            balrl.train_population(members(), tmp_path)
    (tmp_path / "s1" / "metrics.csv").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a symbolic link"):
        balrl.resume_population(tmp_path)
    (tmp_path / "s1" / "metrics.csv").unlink()
    assert all(result.finished for result in balrl.resume_population(tmp_path).values())


@pytest.mark.parametrize("name", ["../elsewhere", "..", "/tmp/elsewhere", "a/b"])
def test_a_list_of_members_does_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "population.yaml").write_text(f"{name}: {{}}\n")
    with pytest.raises(UserError, match=r"names a member '.*', expected the name of a folder"):
        balrl.resume_population(tmp_path / "p")
    assert not (tmp_path / "config.yaml").exists()
