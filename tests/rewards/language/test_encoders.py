"""Encoders: what they make of texts, alone and together, and how they are found again."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from balrl.errors import UserError
from balrl.rewards.language import Sentences, Transformer, WordLlama, make_encoder
from tests.rewards.language.small import tiny_transformer

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_transformer(tmp_path_factory.mktemp("transformer"))


def test_word_embeddings_are_their_mean() -> None:
    pytest.importorskip("wordllama")
    encoder = make_encoder("wordllama")
    assert isinstance(encoder, WordLlama)
    found = encoder(["good film", "film good", "", "good film good film"])
    assert found.shape == (4, encoder.width)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[3])
    assert not found[2].any()
    assert encoder([]).shape == (0, 256)
    torch.testing.assert_close(pickle.loads(pickle.dumps(encoder))(["good"]), encoder(["good"]))


def test_a_transformer_does_not_see_its_padding(path: str) -> None:
    encoder = Transformer(path)
    texts = ["good film was good", "bad", "", "the the the the the the"]
    together = encoder(texts)
    for text, row in zip(texts, together, strict=True):
        torch.testing.assert_close(encoder([text])[0], row, rtol=1e-5, atol=1e-6)
    tokens = encoder.tokenizer([texts[0]], return_tensors="pt")
    expected = encoder.model(**tokens).last_hidden_state.mean(1)
    torch.testing.assert_close(together[:1], expected, rtol=1e-5, atol=1e-6)
    assert encoder([]).shape == (0, 16)
    assert torch.equal(Transformer(path, longest=2)([texts[0]]), Transformer(path)(["good film"]))
    torch.testing.assert_close(pickle.loads(pickle.dumps(encoder))(texts), together)


def test_more_texts_than_at_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Transformer(path)
    together = encoder(["good", "bad film", "the", "was"])
    monkeypatch.setattr("balrl.rewards.language.encoders.AT_ONCE", 3)
    torch.testing.assert_close(encoder(["good", "bad film", "the", "was"]), together, rtol=1e-5, atol=1e-6)


def test_anything_that_encodes() -> None:
    class Lengths:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([[len(text), 1] for text in texts], np.float64)

    encoder = Sentences(Lengths(), "lengths")
    assert encoder.width == 2
    assert encoder(["abc"]).tolist() == [[3, 1]]


def test_how_much_is_seen_is_part_of_the_name(path: str) -> None:
    short = Transformer(path, longest=2)
    assert short.name == f"transformer:{path}@2"
    again = make_encoder(short.name)
    assert torch.equal(again(["good film was"]), short(["good film"]))
    assert Transformer(path, longest=10_000).longest == 32  # positions that the model has


def test_no_code_of_a_folder_runs(path: str, tmp_path: Path) -> None:
    folder = shutil.copytree(path, tmp_path / "evil")
    (folder / "evil.py").write_text("open('ran', 'w').close()\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no transformer at"):
        Transformer(str(folder))
    assert not Path("ran").exists()


def test_damaged_files_are_one_line(path: str, tmp_path: Path) -> None:
    folder = shutil.copytree(path, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="no transformer at"):
        Transformer(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert", "no encoder 'bert'; encoders: wordllama, transformer:PATH, sentence:PATH"),
        ("transformer:", "no encoder 'transformer:'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_encoder(name)


def test_a_folder_without_a_transformer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no transformer at"):
        make_encoder(f"transformer:{tmp_path}")
