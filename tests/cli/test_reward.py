"""``balrl reward``: from a dataset to preferences, an ensemble, and data with learned rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balrl.cli.main import main
from balrl.data.d4rl import load_d4rl
from balrl.errors import UserError
from balrl.rewards import LearnedReward, Preferences, RewardEnsemble

DATA = "point-maze-mixed"
ENV = ["--env", "balrl/PointMaze-v0"]


def collect(path: Path, *more: str) -> int:
    return main(["reward", "collect", DATA, *ENV, "--pairs", "60", "--steps", "5", "--out", str(path), *more])


def train(preferences: Path, out: Path) -> int:
    small = ["--members", "2", "--hidden", "16", "--epochs", "3"]
    return main(["reward", "train", str(preferences), "--out", str(out), *small])


def test_from_data_to_data_with_learned_rewards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, model, out = tmp_path / "p.safetensors", tmp_path / "r.safetensors", tmp_path / "data.hdf5"
    assert collect(pairs, "--flip", "0.25", "--seed", "3") == 0
    made = Preferences.load(pairs)
    assert (len(made), made.steps, made.notes["teacher"]["flip"]) == (60, 5, 0.25)
    assert train(pairs, model) == 0
    assert main(["reward", "evaluate", str(model), str(pairs)]) == 0
    assert collect(tmp_path / "q.safetensors", "--strategy", "disagreement", "--ensemble", str(model)) == 0
    assert main(["reward", "relabel", DATA, str(out), *ENV, "--ensemble", str(model), "--objective", "wco"]) == 0
    printed = capsys.readouterr().out
    assert "60 pairs of 5 steps" in printed
    assert "on 6 held-out pairs: accuracy" in printed
    assert "on 60 pairs: accuracy" in printed
    assert load_d4rl(out).rewards_from == LearnedReward(RewardEnsemble.load(model), "wco").describe()
    assert main(["data", "info", str(out)]) == 0
    assert "wco(0) of 2 members" in capsys.readouterr().out


def test_best_of_n_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(f'{{"scores": [{i}, {-i}], "gold": {2 * i}}}\n' for i in range(3)))
    assert main(["reward", "best-of-n", str(pool), "--objectives", "single", "wco"]) == 0
    printed = capsys.readouterr().out
    rows = [
        line.split()
        for line in printed.replace("│", " ").splitlines()
        if line.strip(" │").startswith(("single", "wco"))
    ]
    assert [row[-1] for row in rows] == ["2.0000", "3.3333", "4.0000", "2.0000", "0.6667", "0.0000"]
    assert main(["reward", "best-of-n", str(pool), "--n", "4"]) == 2
    assert "at most the pool's 3 samples" in capsys.readouterr().err


def test_mistakes_are_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, model, out = tmp_path / "p.safetensors", tmp_path / "r.safetensors", tmp_path / "out.hdf5"
    collect(pairs)
    train(pairs, model)
    out.touch()
    relabel = ["reward", "relabel", DATA, str(tmp_path / "new.hdf5"), *ENV, "--ensemble"]
    for arguments, message in (
        (["reward", "train", str(model), "--out", str(tmp_path / "x.safetensors")], "holds no preferences"),
        (["reward", "train", str(pairs), "--out", str(tmp_path / "x.pt")], "ends in .safetensors"),
        (["reward", "evaluate", str(tmp_path / "none.safetensors"), str(pairs)], "no such file"),
        ([*relabel, str(model), "--objective", "wc"], "did you mean 'wco'"),
        ([*relabel, str(pairs)], "holds no reward ensemble"),
        (["reward", "relabel", DATA, str(out), *ENV, "--ensemble", str(model)], "exists already"),
        (["reward", "collect", DATA, "--env", "balrl/Pendulum-v1", "--out", str(pairs)], "do not belong together"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_study_from_a_protocol_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol, out = tmp_path / "tiny.yaml", tmp_path / "study"
    protocol.write_text(
        "agent: {name: ppo, rollout_steps: 2, epochs: 1, hidden: [8]}\n"
        "preferences: {pairs: 20, flips: [0.25]}\n"
        "ensemble: {members: 2, hidden: [8], epochs: 1}\n"
        "best_of_n: {states: 2, samples: 10}\n"
        "ppo: {num_envs: 8, batch_size: 8, rollouts: 2, kl_coefficients: [0.0]}\n"
        "objectives: {single: {objective: single}, WCO: {objective: wco}}\n"
    )
    assert main(["reward", "study", str(protocol), "--out", str(out), "--seeds", "3"]) == 0
    page = (out / "report.md").read_text()
    assert page.count("| WCO | 1 |") == 2
    (out / "report.md").unlink()
    assert main(["reward", "study", str(protocol), "--out", str(out), "--report-only"]) == 0
    assert (out / "report.md").read_text() == page
    capsys.readouterr()
    assert main(["reward", "study", "--out", str(out)]) == 2
    assert "holds a study with another protocol" in capsys.readouterr().err
    assert main(["reward", "study", "--out", str(tmp_path / "none"), "--report-only"]) == 2
    assert "holds no results of a study" in capsys.readouterr().err
    protocol.write_text("preferences: {pars: 3}")
    assert main(["reward", "study", str(protocol), "--out", str(tmp_path / "other")]) == 2
    assert "unknown key 'preferences.pars'; did you mean 'preferences.pairs'?" in capsys.readouterr().err


def test_the_seed_and_the_trunk_reach_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fits(ensemble: RewardEnsemble, *_: Any, seed: int, **__: Any) -> Any:
        seen.update(ensemble.settings, fit=seed)
        raise UserError("seen")

    assert collect(tmp_path / "p.safetensors") == 0
    monkeypatch.setattr("balrl.rewards.fit_ensemble", fits)
    more = [
        "--out",
        str(tmp_path / "r.safetensors"),
        "--shared-trunk",
        "--seed",
        "5",
        "--members",
        "2",
        "--hidden",
        "8",
    ]
    assert main(["reward", "train", str(tmp_path / "p.safetensors"), *more]) == 2
    assert (seen["shared_trunk"], seen["seed"], seen["fit"], seen["members"]) == (True, 5, 5, 2)


def test_preferences_are_about_one_of_several_rewards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect = ["reward", "collect", "point-maze-energy", "--pairs", "5", "--steps", "5", "--out"]
    assert main([*collect, str(tmp_path / "no.safetensors")]) == 2
    assert "has 2 rewards a step, --reward is None: name the one that preferences are about" in capsys.readouterr().err
    assert main([*collect, str(tmp_path / "no.safetensors"), "--reward", "3"]) == 2
    assert main([*collect, str(tmp_path / "a.safetensors"), "--reward", "2"]) == 0
    assert main([*collect, str(tmp_path / "b.safetensors"), "--unlabelled"]) == 0
