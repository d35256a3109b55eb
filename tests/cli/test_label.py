"""``balrl reward film`` and ``label``: preferences of people."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.cli.main import main
from balrl.rewards import Preferences
from tests.cli.test_reward import DATA, ENV, train


def test_preferences_of_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out, folder = tmp_path / "p.safetensors", tmp_path / "q.safetensors", tmp_path / "clips"
    few = ["--pairs", "3", "--steps", "5", "--out", str(pairs)]
    assert main(["reward", "collect", DATA, *ENV, *few, "--unlabelled", "--flip", "0.1"]) == 2
    assert main(["reward", "collect", DATA, *ENV, *few, "--unlabelled", "--flip", "0"]) == 0
    assert "3 pairs of 5 steps, preferred: no labels yet" in capsys.readouterr().out
    assert train(pairs, tmp_path / "r.safetensors") == 2
    assert "3 of 3 pairs have no label yet" in capsys.readouterr().err
    assert main(["reward", "film", str(pairs), str(folder), "--env", "Hopper-v5"]) == 2
    assert main(["reward", "film", str(pairs), str(folder)]) == 0
    assert len(list(folder.glob("*.webp"))) == 3
    answers = tmp_path / "labels.csv"
    answers.write_text("pair,preferred\n0,second\n2,first\n1,skip\n")
    assert main(["reward", "label", str(pairs), str(answers), "--out", str(out)]) == 0
    assert "2 of 3 pairs, preferred: 1 first, 1 second, 0 equal" in capsys.readouterr().out
    assert Preferences.load(out).labels.tolist() == [1.0, 0.0]
