from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from balrl.checkpoint import (
    list_checkpoints,
    load_random_state,
    load_state,
    load_tensors,
    newest_readable,
    prune_checkpoints,
    random_state,
    read_checkpoint,
    save_checkpoint,
    write_json,
)
from balrl.errors import UserError


def test_round_trip_and_shared_memory(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    path = save_checkpoint(
        tmp_path / "c", {"a": {"x": whole, "head": whole[:2], "flag": torch.tensor(True)}, "b": {}}, {"n": 1}
    )
    loaded = load_tensors(path, "a")
    assert torch.equal(loaded["x"], whole)
    assert torch.equal(loaded["head"], whole[:2])
    assert loaded["flag"].dtype == torch.bool
    assert load_tensors(path, "b") == {}
    assert load_state(path)["n"] == 1


def test_a_failed_write_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, {"a": {"x": torch.ones(1)}}, {"n": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"a": {"x": torch.zeros(1)}}, {"n": object()})
    assert load_state(path)["n"] == 1
    assert load_tensors(path, "a")["x"].item() == 1
    save_checkpoint(path, {"a": {"x": torch.zeros(1)}}, {"n": 2})
    assert (load_state(path)["n"], load_tensors(path, "a")["x"].item()) == (2, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_unfinished_writes_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("0000000010", "0000000020", ".0000000030.writing"):
        save_checkpoint(tmp_path / "checkpoints" / name, {}, {})
    assert [p.name for p in list_checkpoints(tmp_path)] == ["0000000020", "0000000010"]
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_pruning_keeps_the_newest_and_the_ends_of_phases(tmp_path: Path) -> None:
    names = ["0000000010", "0000000020", "0000000025-end-pretrain", "0000000030", "0000000040"]
    for name in names:
        save_checkpoint(tmp_path / "checkpoints" / name, {}, {})
    prune_checkpoints(tmp_path, 2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == names[2:]


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", {"a": {"x": torch.ones(100)}}, {})
    file = path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"a.safetensors' has 50 bytes, expected 472"):
        load_tensors(path, "a")
    (path / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"state.json' is damaged: Expecting property name"):
        load_state(path)
    (path / "state.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_state(path)


def test_json_has_no_numbers_that_json_lacks(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": 2}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [1.0, None], "c": {"d": 2}}


def test_random_states_round_trip() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    draw()
    state = random_state(torch.device("cpu"))
    expected = draw()
    assert draw() != expected
    load_random_state(state, torch.device("cpu"))
    assert draw() == expected


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_passed_over(tmp_path: Path) -> None:
    for name in ("0000000010", "0000000020"):
        save_checkpoint(tmp_path / "checkpoints" / name, {}, {})
    seen = []

    def read(path: Path) -> str:
        seen.append(path.name)
        if len(seen) == 1:
            shutil.rmtree(path)  # as the run that goes on would
        load_state(path)
        return path.name

    assert read_checkpoint(tmp_path, read) == "0000000010"
    assert seen == ["0000000020", "0000000010"]
    (tmp_path / "checkpoints" / "0000000010" / "state.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(tmp_path, read)


def test_a_checkpoint_lists_its_files(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", {"a": {"x": torch.ones(4)}, "b": {}, "d": {"y": torch.zeros(2)}}, {})
    listed = load_state(path)["files"]
    assert sorted(listed) == ["a.safetensors", "d.safetensors"]
    assert listed["a.safetensors"]["bytes"] == (path / "a.safetensors").stat().st_size
    assert load_tensors(path, "b") == {}
    content = bytearray((path / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors' is damaged: its contents changed after it was written"):
        load_tensors(path, "a")
    (path / "d.safetensors").unlink()
    with pytest.raises(UserError, match=r"d\.safetensors' is missing"):
        load_tensors(path, "d")  # a missing file is not an empty group


def test_an_older_checkpoint_is_read_with_a_notice(tmp_path: Path) -> None:
    group = {"x": torch.ones(1)}
    path = save_checkpoint(tmp_path / "checkpoints" / "0000000010", {"agent": group, "random": group}, {})
    state = load_state(path)
    del state["files"]
    write_json(path / "state.json", state)
    said: list[str] = []
    assert newest_readable(tmp_path, said.append)[0] == path
    assert "was written by an older balrl and lists no files" in said[0]
    assert load_tensors(path, "nothing") == {}


def test_checkpoints_that_are_all_damaged_are_no_new_beginning(tmp_path: Path) -> None:
    assert newest_readable(tmp_path, print) == (None, None)
    for name in ("0000000010", "0000000020"):
        path = save_checkpoint(tmp_path / "checkpoints" / name, {"a": {"x": torch.ones(1)}}, {})
        (path / "a.safetensors").unlink()
    said: list[str] = []
    with pytest.raises(UserError, match=r"none of the 2 checkpoints in .* is whole"):
        newest_readable(tmp_path, said.append)
    assert len(said) == 2


def test_a_list_of_files_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", {"a": {"x": torch.ones(1)}}, {})
    state = load_state(path)
    state["files"]["../secret"] = state["files"]["a.safetensors"]
    write_json(path / "state.json", state)
    with pytest.raises(UserError, match=r"lists '\.\./secret', expected the name of a file in the same folder"):
        load_tensors(path, "a")
