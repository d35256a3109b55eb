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


@pytest.mark.slow
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
    with pytest.raises(UserError, match="has other members than its header says: 2"):
        LoRAReward.load(tmp_path / "lacks.safetensors")
    tensors["0.head"] = torch.zeros(1, 3)
    save_file(tensors, tmp_path / "other.safetensors", {HEADER: _header(reward)})
    with pytest.raises(UserError, match=r"'0\.head' has shape \(1, 3\), expected \(1, 16\)"):
        LoRAReward.load(tmp_path / "other.safetensors")


def _header(reward: LoRAReward) -> str:
    import json

    return json.dumps({"format": 1, **reward.settings})


def test_too_little_to_learn_from(path: str) -> None:
    with pytest.raises(UserError, match="an ensemble of adapters with members=0, expected at least 1"):
        LoRAReward(path, 0)
    with pytest.raises(UserError, match="leave none to train on"):
        LoRAReward(path, 1, rank=2).fit(some_pairs(1), FitConfig(held_out=0.9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has another format"),
        ({"rank": 0}, "rank=0, expected at least 1"),
        ({"seed": 2**62}, "expected at least 0 and less than"),
        ({"members": 3}, "has other members than its header says: 3"),
        ({"longest": "x"}, "longest"),
    ],
)
def test_headers_are_not_believed(change: dict[str, object], message: str, path: str, tmp_path: Path) -> None:
    import json

    reward = LoRAReward(path, 2, rank=2)
    tensors = load_file(reward.save(tmp_path / "r.safetensors"))
    save_file(tensors, tmp_path / "x.safetensors", {HEADER: json.dumps({**json.loads(_header(reward)), **change})})
    with pytest.raises(UserError, match=message):
        LoRAReward.load(tmp_path / "x.safetensors")
    extra = {**json.loads(_header(reward)), "later": 1}
    save_file(tensors, tmp_path / "y.safetensors", {HEADER: json.dumps(extra)})
    LoRAReward.load(tmp_path / "y.safetensors")
    for name, value in (("std", torch.zeros(2)), ("mean", torch.zeros(3)), ("0.head", torch.full((1, 16), torch.nan))):
        save_file({**tensors, name: value}, tmp_path / "z.safetensors", {HEADER: _header(reward)})
        with pytest.raises(UserError):
            LoRAReward.load(tmp_path / "z.safetensors")


def test_weights_of_half_precision_and_absolute_positions(tmp_path: Path) -> None:
    """Scores are those of the text alone, whatever else is in the batch; GPT-2 numbers its positions."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tiny_transformer(tmp_path / "gpt2")
    size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=size, n_positions=16, n_embd=16, n_layer=1, n_head=2, pad_token_id=0, eos_token_id=1)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(folder)
    reward = LoRAReward(folder, 2, rank=2)
    assert reward.longest == 16
    texts = ["good film", "the the the the the the", "bad " * 40]
    together = reward.scores(["say"] * 3, texts)
    for index, text in enumerate(texts):
        torch.testing.assert_close(reward.scores(["say"], [text])[:, 0], together[:, index], rtol=1e-4, atol=1e-5)


def test_several_threads_at_once(path: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    reward = LoRAReward(path, 3, rank=2)
    texts = ["good", "bad film", "the lovely", "was awful"]
    expected = {text: reward.scores(["say"], [text]) for text in texts}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: (text, reward.scores(["say"], [text])), texts * 20))
    assert all(torch.equal(scores, expected[text]) for text, scores in found)
