"""Whichever kind of reward a file holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards import RewardEnsemble
from balrl.rewards.language import HeadsReward, LoRAReward, WordLlama, load_reward
from tests.rewards.language.small import tiny_transformer

pytest.importorskip("transformers")


def test_both_kinds_are_told_apart(tmp_path: Path) -> None:
    heads = HeadsReward(WordLlama(), 2, (8,))
    lora = LoRAReward(tiny_transformer(tmp_path / "transformer"), 2, rank=2)
    for reward, name in ((heads, "heads"), (lora, "lora")):
        found = load_reward(reward.save(tmp_path / f"{name}.safetensors"))
        assert type(found) is type(reward)
        torch.testing.assert_close(found.scores(["say"], ["good"]), reward.scores(["say"], ["good"]))


def test_files_of_something_else(tmp_path: Path) -> None:
    RewardEnsemble(3).save(tmp_path / "actions.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    for name, message in (
        ("actions", "of observations and actions, not of texts"),
        ("text", "is not a safetensors file"),
        ("missing", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            load_reward(tmp_path / f"{name}.safetensors")
