"""What to begin with, by what the data is like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import balrl
from balrl.errors import UserError
from balrl.run.advice import Advice, advise
from balrl.run.presets import load_config
from tests.data.test_profile import made

DENSE = np.repeat(np.linspace(0, 1, 200), 200) + np.random.default_rng(0).normal(size=40_000) * 0.01


def of(rewards: np.ndarray, episodes: int, length: int, **about: object) -> Advice:
    return advise(replace(made(episodes, length, rewards=rewards), **about))  # type: ignore[arg-type]


def test_equal_episodes_are_imitated() -> None:
    nearly = np.repeat(np.linspace(0.95, 1, 200), 200)
    found = of(nearly, 200, 200)
    assert found.preset == "bc/locomotion"
    assert "imitate" in found.reasons[0].therefore


def test_demonstrations_and_sparse_logs_have_a_small_balance() -> None:
    rewards = np.zeros((25, 200))
    rewards[::3, -1] = 10
    assert of(rewards.ravel(), 25, 200, env_id="AdroitHandDoor-v1").preset == "iql/adroit"
    rewards = np.zeros((400, 100))
    rewards[::3, -1] = 1
    found = of(rewards.ravel(), 400, 100, env_id="balrl/PointMaze-v0")
    assert (found.preset, found.settings["agent.balance.coefficient"]) == ("iql/point-maze", 1.0)


def test_mixed_logs_are_trained_so_that_the_last_checkpoint_is_worth_having() -> None:
    found = of(DENSE, 200, 200)
    assert found.preset == "iql/robust"
    assert load_config(found.preset).agent.policy_average == 0.9998
    assert "data.normalize_observations" not in found.settings
    data = made(200, 200, rewards=DENSE)
    data.observations[:, 0] *= 50
    assert advise(data).settings["data.normalize_observations"] is True


def test_it_fine_tunes_only_where_the_task_can_be_played() -> None:
    data = made(200, 200, rewards=DENSE)
    assert advise(data).settings["finetune.steps"] == 0
    found = advise(data, "balrl/Pendulum-v1")
    assert "finetune.steps" not in found.settings
    assert "env=balrl/Pendulum-v1" in found.command
    with pytest.raises(UserError, match="did you mean"):
        advise(data, "balrl/Pendulam-v1")


def test_what_it_says_can_be_run(tmp_path: Path) -> None:
    found = balrl.advise("point-maze-mixed")
    file = tmp_path / "run.yaml"
    file.write_text(found.to_yaml())
    assert file.read_text().startswith("# 99% of the steps have one reward")
    config = load_config(file=file)
    assert config.agent.balance.coefficient == 1.0  # type: ignore[attr-defined]
    assert (config.dataset, config.finetune.steps) == ("point-maze-mixed", 0)
    words = found.command.split()
    assert words[:4] == ["balrl", "train", "--preset", "iql/point-maze"]
    assert load_config(words[3], settings=dict(word.split("=", 1) for word in words[4:])) == config


@pytest.mark.parametrize("rewards", [np.zeros(40_000), -np.ones(40_000)])
def test_failures_are_not_imitated(rewards: np.ndarray) -> None:
    assert not advise(made(200, 200, noise=1.0, rewards=rewards)).preset.startswith("bc")
    assert not advise(made(1, 40_000, rewards=rewards)).preset.startswith("bc")


def test_more_data_is_trained_on_for_longer() -> None:
    assert "pretrain.updates" not in of(DENSE, 200, 200).settings
    found = of(np.repeat(np.linspace(0, 1, 500), 1_000), 500, 1_000)
    assert found.settings["pretrain.updates"] == 250_000


def test_names_of_d4rl_find_their_presets() -> None:
    rewards = np.zeros((400, 100))
    rewards[::3, -1] = 1
    found = of(rewards.ravel(), 400, 100, env_id="antmaze-large-diverse-v2")
    assert found.preset == "iql/antmaze"
    assert "agent.balance.coefficient" not in found.settings


def test_what_cannot_be_trained_on_is_one_line() -> None:
    data = made(200, 200, rewards=DENSE)
    data.observations[7] = np.nan
    with pytest.raises(UserError, match=r"NaN or infinite.*balrl data check"):
        advise(data)


def test_what_is_odd_in_the_data_comes_first() -> None:
    data = made(200, 200, rewards=DENSE)
    data.next_observations[5] += 1
    assert any("disagree" in problem for problem in advise(data).problems)
