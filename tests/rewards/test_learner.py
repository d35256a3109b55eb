"""Rewards learned inside a run: from data, from files, and on the way."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.config import RewardConfig
from balrl.errors import UserError
from balrl.rewards import Preferences, RewardEnsemble
from balrl.rewards.learner import RewardLearner
from balrl.run.presets import TrainConfig
from balrl.run.start_and_resume import prepare_run, start_run
from balrl.spaces import SpaceAdapter
from balrl.watch.display import Display
from balrl.watch.tracking import read_metrics
from tests.run.small import SMALL, Interrupt, Listening, final_state

LEARNED = {
    **SMALL,
    "num_envs": "5",
    "env_kwargs": "{max_episode_steps: 15}",
    "reward.pairs": "40",
    "reward.steps": "4",
    "reward.hidden": "[8]",
    "reward.members": "3",
    "reward.epochs": "2",
}
ONLINE = {**LEARNED, "reward.online_every": "15", "reward.online_pairs": "10", "reward.strategy": "disagreement"}
PPO = {
    **{k: v for k, v in ONLINE.items() if not k.startswith("pretrain") and k not in ("reward.pairs", "warmup.steps")},
    "warmup.steps": "20",
    "agent.rollout_steps": "4",
    "batch_size": "10",
}


def maze_config(settings: dict[str, str], preset: str = "iql/point-maze") -> TrainConfig:
    return balrl.load_config(preset, settings=settings)


def replay_of(run_dir: Path) -> tuple[torch.Tensor, RewardEnsemble]:
    """Return the newest checkpoint's replay rows and its reward ensemble."""
    path = list_checkpoints(run_dir)[0]
    ensemble = RewardEnsemble(6, 3, (8,))
    state = load_tensors(path, "reward")
    ensemble.load_state_dict({k.removeprefix("ensemble."): v for k, v in state.items() if k.startswith("ensemble.")})
    return load_tensors(path, "replay")["rows"], ensemble


def test_agents_train_on_the_learned_reward_and_are_evaluated_on_the_task_s(tmp_path: Path) -> None:
    config = maze_config({**LEARNED, "data.reward_scale": "3", "data.reward_bias": "1", "checkpoint.every": "7"})
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "run", Interrupt(60, crash=True))
    rows, ensemble = replay_of(tmp_path / "run")
    observations, actions, rewards = rows[:, :4], rows[:, 4:6], rows[:, 6]
    scores = ensemble(torch.cat([observations, actions], -1))
    wanted = scores.mean(0) - 0.5 * scores.var(0, correction=0)
    torch.testing.assert_close(rewards, (3 * wanted + 1).detach(), rtol=1e-4, atol=1e-4)
    evaluation = json.loads((tmp_path / "run" / "evaluations.json").read_text())[-1]
    assert set(np.unique(evaluation["returns"])) <= {float(-i) for i in range(16)}  # the task's own: -1 a step
    logged = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "reward/gold" in r]
    assert logged
    assert all(-1 <= r["reward/gold"] <= 0 and r["reward/disagreement"] > 0 for r in logged)


@pytest.mark.parametrize(
    ("step", "preset", "settings"),
    [
        (23, "iql/point-maze", LEARNED),
        (52, "famo2o-iql/point-maze", {**ONLINE, "finetune.retain": "append", "agent.balance.hidden": "[8]"}),
        (52, "cql/point-maze", {**ONLINE, "finetune.retain": "ratio", "agent.sampled_actions": "2"}),
        (52, "ppo/classic", PPO),
    ],
)
def test_killed_and_resumed_equals_not_killed(tmp_path: Path, step: int, preset: str, settings: dict[str, str]) -> None:
    config = maze_config(settings, preset)
    assert balrl.train(config, tmp_path / "whole").finished
    path = tmp_path / "stopped"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, path, Interrupt(step, crash=True))
    assert balrl.resume(path).finished
    expected, got = final_state(tmp_path / "whole"), final_state(path)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key


def test_rounds_of_preferences_relabel_everything_that_was_stored(tmp_path: Path) -> None:
    config = maze_config({**ONLINE, "finetune.retain": "append", "checkpoint.every": "1"})
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "run", Interrupt(12 + 50, crash=True))
    rounds = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "reward/rounds" in r]
    assert [r["reward/rounds"] for r in rounds] == [1, 2]
    assert [r["reward/preferences"] for r in rounds] == [50, 60]
    rows, ensemble = replay_of(tmp_path / "run")
    scores = ensemble(rows[:, :6])
    wanted = scores.mean(0) - 0.5 * scores.var(0, correction=0)
    scale = balrl.load_config("iql/point-maze").data
    torch.testing.assert_close(
        rows[:, 6], (scale.reward_scale * wanted + scale.reward_bias).detach(), rtol=1e-4, atol=1e-4
    )


def test_an_ensemble_and_preferences_from_files(tmp_path: Path) -> None:
    ensemble = RewardEnsemble(6, 3, (8,), seed=5)
    ensemble.save(tmp_path / "reward.safetensors")
    base = {k: v for k, v in LEARNED.items() if not k.startswith("reward.")}
    heard = Listening()
    balrl.train(maze_config({**base, "reward.ensemble": str(tmp_path / "reward.safetensors")}), tmp_path / "a", heard)
    assert "reward: uwo(0.5) of 3 members" in heard.heard
    pairs = Preferences(torch.randn(20, 2, 3, 4), torch.rand(20, 2, 3, 2), torch.ones(20), "balrl/PointMaze-v0")
    pairs.save(tmp_path / "pairs.safetensors")
    settings = {**base, "reward.preferences": str(tmp_path / "pairs.safetensors"), "reward.epochs": "1"}
    assert balrl.train(maze_config({**settings, "reward.hidden": "[8]"}), tmp_path / "b").finished


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward.ensemble": "x.safetensors"}, "reward.ensemble and reward.pairs are both given"),
        ({"reward.pairs": "0"}, "nothing to learn from"),
        ({"reward.pairs": "0", "reward.ensemble": "none.safetensors"}, "no reward ensemble at"),
        ({"dataset": "null", "pretrain.updates": "0"}, "reward.pairs needs a dataset"),
        ({"reward.pairs": "0", "reward.online_every": "30"}, "warmup.steps 20: the first preferences must come before"),
        ({"reward.coefficient": "-1"}, "coefficient of 'uwo' is -1"),
        ({"reward.steps": "999"}, "no episode of 'point-maze-mixed' has 999 steps"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        balrl.train(maze_config({**LEARNED, **settings}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ensembles_and_preferences_of_another_task_are_refused(tmp_path: Path) -> None:
    RewardEnsemble(9, 2, (8,)).save(tmp_path / "reward.safetensors")
    settings = {**LEARNED, "reward.pairs": "0", "reward.ensemble": str(tmp_path / "reward.safetensors")}
    with pytest.raises(UserError, match=r"takes 9 numbers a step, balrl/PointMaze-v0 has 6"):
        balrl.train(maze_config(settings), tmp_path / "run")
    Preferences(torch.randn(4, 2, 3, 4), torch.rand(4, 2, 3, 2), torch.ones(4), "Hopper-v5").save(
        tmp_path / "p.safetensors"
    )
    settings = {**LEARNED, "reward.pairs": "0", "reward.preferences": str(tmp_path / "p.safetensors")}
    with pytest.raises(UserError, match="holds preferences of Hopper-v5, expected balrl/PointMaze-v0"):
        balrl.train(maze_config(settings), tmp_path / "run")


def test_rewards_under_monte_carlo_returns_cannot_be_learned_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="agent calql keeps Monte-Carlo returns"):
        balrl.train(maze_config({**ONLINE, "agent.sampled_actions": "2"}, "calql/point-maze"), tmp_path / "run")


def test_a_round_without_long_enough_episodes_is_left_out_and_said(tmp_path: Path) -> None:
    heard = Listening()
    config = maze_config({**ONLINE, "env_kwargs": "{max_episode_steps: 3}"})
    assert balrl.train(config, tmp_path / "run", heard).finished
    assert "no new preferences at step" in heard.heard


def test_rolling_back_takes_the_logged_data_back_to_the_reward_of_then(tmp_path: Path) -> None:
    config = maze_config({**ONLINE, "finetune.retain": "ratio"})
    trainer = start_run(config, prepare_run(config, tmp_path, Display()), tmp_path)
    parts = trainer.components
    assert parts.offline is not None
    assert parts.reward is not None
    before = parts.offline.storage.clone()
    saved = trainer.save("start")
    with torch.no_grad():
        parts.reward.reward.ensemble.head.weight.add_(1)
    parts.reward.rounds = 1
    parts.reward.relabel(parts.offline, parts.interaction.rewards)  # type: ignore[union-attr]
    assert not torch.allclose(parts.offline.storage, before)
    trainer.load(saved)
    torch.testing.assert_close(parts.offline.storage, before, rtol=1e-4, atol=1e-4)
    parts.close()


def test_every_round_is_fitted_with_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("balrl.rewards.learner.fit_ensemble", lambda *_, seed: seeds.append(seed) or {})
    spaces = SpaceAdapter(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,)))
    config = RewardConfig(pairs=1, hidden=(4,))
    learner = RewardLearner(config, spaces, "task", 7, torch.device("cpu"), None, None, None)
    learner.preferences = Preferences(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 2), torch.zeros(1), "task")
    learner.fit()
    learner.rounds = 2
    learner.fit()
    assert seeds == [7, 9]
