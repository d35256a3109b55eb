from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from balrl.checkpoint import (
    list_checkpoints,
    load_random_state,
    load_state,
    load_tensors,
    prune_checkpoints,
    random_state,
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
