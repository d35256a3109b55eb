"""``balrl reward`` on texts: from pairs to a reward, and to the best of n completions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from balrl.cli.main import main
from balrl.rewards import RewardEnsemble, conservative, expected_best_of_n
from balrl.rewards.language import load_reward
from tests.rewards.language.small import some_pairs, tiny_transformer

pytest.importorskip("transformers")
SMALL = ["--members", "2", "--epochs", "10", "--learning-rate", "0.003"]


def pairs_file(path: Path, count: int = 80, seed: int = 0) -> str:
    pairs = some_pairs(count, seed)
    names = ("first", "second")
    rows = [
        {"prompt": p, "first": a, "second": b, "preferred": names[int(label)]}
        for p, a, b, label in zip(pairs.prompts, pairs.first, pairs.second, pairs.labels.tolist(), strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_from_pairs_to_the_best_completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "r.safetensors")
    text = ["--text", pairs_file(tmp_path / "pairs.jsonl")]
    assert main(["reward", "train", *text, "--out", model, *SMALL, "--hidden", "16", "--sees-length"]) == 0
    assert "on 8 held-out pairs: accuracy" in (printed := capsys.readouterr().out)
    assert "2 members" in printed
    assert main(["reward", "evaluate", model, "--text", pairs_file(tmp_path / "more.jsonl", seed=1)]) == 0
    assert "on 80 pairs: accuracy" in capsys.readouterr().out
    pool = tmp_path / "pool.jsonl"
    said = ["good film", "bad film", "the film", "lovely lovely"]
    pool.write_text(
        "".join(json.dumps({"prompt": "say", "completion": s, "gold": i}) + "\n" for i, s in enumerate(said))
    )
    assert main(["reward", "best-of-n", str(pool), "--ensemble", model, "--objectives", "wco", "--n", "2"]) == 0
    proxy = conservative(load_reward(model).scores(["say"] * 4, said).double(), "wco")
    row = next(line for line in capsys.readouterr().out.splitlines() if "wco" in line)
    assert f"{expected_best_of_n(proxy, proxy, [2]).item():.4f}" in row
    assert f"{expected_best_of_n(proxy, torch.arange(4.0), [2]).item():.4f}" in row


def test_wrong_labels_by_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["--text", pairs_file(tmp_path / "pairs.jsonl", 200)]
    found = []
    for flip in ("0", "0.999"):
        out = str(tmp_path / f"{flip}.safetensors")
        assert main(["reward", "train", *text, "--out", out, *SMALL, "--hidden", "16", "--flip", flip]) == 0
        capsys.readouterr()
        assert main(["reward", "evaluate", out, *text]) == 0
        found.append(float(capsys.readouterr().out.split("accuracy ")[1].split()[0]))
    assert found[0] > 0.8
    assert found[1] < 0.2


def test_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["--text", pairs_file(tmp_path / "pairs.jsonl", 20)]
    lora = ["--lora", tiny_transformer(tmp_path / "model"), "--rank", "2"]
    out = str(tmp_path / "r.safetensors")
    assert main(["reward", "train", *text, "--out", out, "--members", "2", "--epochs", "1", *lora]) == 0
    assert main(["reward", "evaluate", out, *text]) == 0
    assert capsys.readouterr().out.count("accuracy") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "{}/r.safetensors"], "expected either PREFERENCES or --text PAIRS, found neither"),
        (["train", "p", "--text", "{}/a", "--out", "{}/r.safetensors"], "found both"),
        (["train", "--text", "{}/none", "--out", "{}/r.safetensors"], "no pairs of texts at"),
        (["train", "--text", "{}/pairs.jsonl", "--flip", "2", "--out", "{}/r.safetensors"], "--flip 2: expected"),
        (["train", "--text", "{}/pairs.jsonl", "--rank", "2", "--out", "{}/r.safetensors"], "give --lora PATH"),
        (
            ["train", "--text", "{}/pairs.jsonl", "--lora", "x", "--encoder", "y", "--out", "{}/r.safetensors"],
            "--encoder is not for adapters",
        ),
        (["train", "--text", "{}/pairs.jsonl", "--encoder", "y", "--out", "{}/r.safetensors"], "no encoder 'y'"),
        (["train", "prefs", "--flip", "0.3", "--out", "{}/r.safetensors"], "--flip is for --text PAIRS"),
        (["train", "prefs", "--encoder", "x", "--out", "{}/r.safetensors"], "--encoder is for --text PAIRS"),
        (
            ["train", "--text", "{}/pairs.jsonl", "--lora", "x", "--shared-trunk", "--out", "{}/r.safetensors"],
            "--shared-trunk is not for adapters",
        ),
        (["evaluate", "{}/actions.safetensors", "--text", "{}/pairs.jsonl"], "not of texts"),
        (["best-of-n", "{}/pairs.jsonl", "--ensemble", "{}/actions.safetensors"], "row 0 has no text 'completion'"),
    ],
)
def test_mistakes(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs_file(tmp_path / "pairs.jsonl", 10)
    RewardEnsemble(3).save(tmp_path / "actions.safetensors")
    assert main(["reward", *(part.format(tmp_path) for part in arguments)]) == 2
    assert message in capsys.readouterr().err
