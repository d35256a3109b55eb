"""Preferences and their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from balrl.errors import UserError
from balrl.rewards import Preferences


def preferences(pairs: int = 4, steps: int = 3) -> Preferences:
    generator = torch.Generator().manual_seed(0)
    return Preferences(
        torch.randn(pairs, 2, steps, 5, generator=generator),
        torch.rand(pairs, 2, steps, 2, generator=generator),
        torch.tensor([0.0, 1.0, 0.5, 1.0])[:pairs],
        "Hopper-v5",
        {"teacher": {"flip": 0.25}},
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    made = preferences()
    path = made.save(tmp_path / "a.safetensors")
    loaded = Preferences.load(path, "Hopper-v5")
    for name in ("observations", "actions", "labels"):
        assert torch.equal(getattr(loaded, name), getattr(made, name))
    assert (loaded.env_id, loaded.notes, len(loaded), loaded.steps) == ("Hopper-v5", made.notes, 4, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_some_of_them_and_their_inputs() -> None:
    made = preferences()
    assert made.take(made.labels != 0.5).labels.tolist() == [0, 1, 1]
    assert torch.equal(made.inputs[..., :5], made.observations)
    assert torch.equal(made.inputs[..., 5:], made.actions)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    path = preferences().save(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="preferences of Hopper-v5, expected Ant-v5"):
        Preferences.load(path, "Ant-v5")
    with pytest.raises(UserError, match="no such file"):
        Preferences.load(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_text("{}")
    with pytest.raises(UserError, match="not a safetensors file"):
        Preferences.load(tmp_path / "c.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "d.safetensors")
    with pytest.raises(UserError, match="holds no preferences"):
        Preferences.load(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        preferences().save(tmp_path / "e.json")


def test_shapes_and_labels_are_checked() -> None:
    made = preferences()
    with pytest.raises(UserError, match="actions has shape"):
        Preferences(made.observations, made.actions[:, :, :2], made.labels)
    with pytest.raises(UserError, match="labels must be probabilities"):
        Preferences(made.observations, made.actions, made.labels * 2)


def test_taking_and_joining_keep_each_pair_s_own_parts() -> None:
    made = preferences()
    rows = torch.tensor([2, 0])
    taken = made.take(rows)
    for name in ("observations", "actions", "labels"):
        assert torch.equal(getattr(taken, name), getattr(made, name)[rows])
        joined = getattr(made.join(taken), name)
        assert torch.equal(joined, torch.cat([getattr(made, name), getattr(taken, name)]))


@pytest.mark.parametrize("label", [-0.5, 1.5])
def test_labels_are_probabilities(label: float) -> None:
    made = preferences()
    with pytest.raises(UserError, match="labels must be probabilities"):
        Preferences(made.observations, made.actions, torch.full((4,), label))
