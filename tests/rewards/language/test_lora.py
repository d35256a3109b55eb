"""Adapters on a frozen transformer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from balrl.config import FitConfig
from balrl.errors import UserError
from balrl.rewards.language import LoRAReward
from balrl.rewards.language.lora import HEADER
from tests.rewards.language.small import some_pairs, tiny_transformer

pytest.importorskip("peft")
SMALL = FitConfig(epochs=3, learning_rate=3e-3, batch_size=16)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_transformer(tmp_path_factory.mktemp("transformer"))


def test_scores_are_the_head_on_the_last_token(path: str) -> None:
    reward = LoRAReward(path, 2, rank=2)
    found = reward.scores(["say", "say"], ["good film", "bad"])
    for text, column in (("say\ngood film", 0), ("say\nbad", 1)):
        tokens = reward.tokenizer([text], return_tensors="pt")
        reward.model.set_adapter("member-1")
        state = reward.model(**tokens).last_hidden_state[0, -1]
        torch.testing.assert_close(found[1, column], reward.heads[1](state)[0].detach(), rtol=1e-5, atol=1e-6)
    assert found.shape == (2, 2)
    assert not torch.equal(found[0], found[1])


def test_a_member_is_the_same_in_every_ensemble(path: str) -> None:
    pairs = some_pairs(40)
    alone, two = LoRAReward(path, 1, rank=2, seed=3), LoRAReward(path, 2, rank=2, seed=3)
    for reward in (alone, two):
        reward.fit(pairs, SMALL, seed=1)
    torch.testing.assert_close(alone.scores(["say"], ["good"])[0], two.scores(["say"], ["good"])[0])


def test_training_moves_the_adapters_and_not_the_transformer(path: str) -> None:
    reward = LoRAReward(path, 2, rank=2)
    before = {name: value.clone() for name, value in reward.model.named_parameters()}
    pairs = some_pairs(80)
    found = reward.fit(pairs, FitConfig(epochs=15, learning_rate=1e-2, batch_size=16))
    moved = {name for name, value in reward.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all("member-" in name for name in moved)
    assert {name.split("member-")[1][0] for name in moved} == {"0", "1"}
    assert reward.quality(some_pairs(80, seed=1))["ensemble_accuracy"] > 0.8
    assert found["held_out_pairs"] == 8
    both = torch.cat([reward.scores(pairs.prompts, side) for side in (pairs.first, pairs.second)], 1)
    torch.testing.assert_close(both.mean(1), torch.zeros(2), atol=1e-4, rtol=0)


def test_files_hold_adapters_heads_and_scale(path: str, tmp_path: Path) -> None:
    reward = LoRAReward(path, 2, rank=2)
    reward.fit(some_pairs(30), SMALL)
    file = reward.save(tmp_path / "r.safetensors")
    found = LoRAReward.load(file)
    torch.testing.assert_close(found.scores(["say"], ["good"]), reward.scores(["say"], ["good"]))
    assert file.stat().st_size < 50_000  # without the transformer
    tensors = load_file(file)
    lacking = {name: value for name, value in tensors.items() if name != "1.head"}
    save_file(lacking, tmp_path / "lacks.safetensors", {HEADER: _header(reward)})
    with pytest.raises(UserError, match=r"tensor '1\.head'"):
        LoRAReward.load(tmp_path / "lacks.safetensors")
    tensors["0.head"] = torch.zeros(1, 3)
    save_file(tensors, tmp_path / "other.safetensors", {HEADER: _header(reward)})
    with pytest.raises(UserError, match=r"'0\.head' has shape \(1, 3\), expected \(1, 16\)"):
        LoRAReward.load(tmp_path / "other.safetensors")


def _header(reward: LoRAReward) -> str:
    import json

    return json.dumps(reward.settings)


def test_too_little_to_learn_from(path: str) -> None:
    with pytest.raises(UserError, match="an ensemble of 0 adapters"):
        LoRAReward(path, 0)
    with pytest.raises(UserError, match="leave none to train on"):
        LoRAReward(path, 1, rank=2).fit(some_pairs(1), FitConfig(held_out=0.9))
