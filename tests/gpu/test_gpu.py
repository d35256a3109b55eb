"""What balrl does on a real GPU: `make test-gpu` where there is one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import balrl
import balrl.envs  # registers its tasks
from balrl.agents import PPO, SAC, PPOConfig, SACConfig
from balrl.execution.steps import GraphCollector
from balrl.replay import ReplayBuffer
from balrl.rollout import Collector
from balrl.run.members import member_configs
from tests.conftest import random_batch
from tests.run.small import FAMILY, PPO as SMALL_PPO, SMALL, Interrupt, final_state
from tests.run.walks import OFFLINE, ON, ONLINE, TASKS, walk

real = torch.cuda.is_available() and "tests.stand_in.plugin" not in sys.modules
pytestmark = pytest.mark.skipif(not real, reason="no GPU here")


@pytest.mark.parametrize("agent_type", [SAC, PPO])
@pytest.mark.parametrize("task", ["balrl/PointMaze-v0", "balrl/Pendulum-v1", "balrl/CartPoleSwingUp-v0"])
def test_captured_steps_are_the_written_ones(task: str, agent_type: Any) -> None:
    def make(kind: type[Collector]) -> tuple[Collector, Any]:
        env = gym.make_vec(task, num_envs=5, device="cuda", max_episode_steps=4)
        torch.manual_seed(0)
        config = (SACConfig if agent_type is SAC else PPOConfig)(hidden=(8, 8))
        agent = agent_type(env.single_observation_space, env.single_action_space, config, "cuda")
        agent.set_phase("online")
        agent.stream.reseed(3)
        return kind(env, "cuda", 7), agent

    def tensors(step: Any) -> list[Tensor]:
        return [x for x in (*step.batch, *step[1:]) if x is not None]

    (plain, one), (captured, other) = make(Collector), make(GraphCollector)
    captured.notice = pytest.fail  # type: ignore[attr-defined]
    for _ in range(11):
        for x, y in zip(tensors(plain.step(one.explore)), tensors(captured.step(other.explore)), strict=True):
            assert torch.equal(x, y)
    assert captured._graphs  # type: ignore[attr-defined]
    assert plain.pop_ended() == captured.pop_ended()


def test_updates_and_steps_never_wait_for_the_device() -> None:
    env = gym.make_vec("balrl/PointMaze-v0", num_envs=5, device="cuda")
    agent = SAC(env.single_observation_space, env.single_action_space, SACConfig(hidden=(8, 8)), "cuda")
    agent.set_phase("online")
    collector = Collector(env, "cuda", 7)
    replay = ReplayBuffer(200, 4, 2, agent.device)
    replay.add(random_batch(60, 4, 2))

    def both() -> None:
        collector.step(agent.explore)
        agent.update(replay.sample(16, 1, agent.stream))

    both()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            both()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("famo2o-iql/point-maze", FAMILY),
        ("famo2o-iql/point-maze", {**FAMILY, "compile": "on"}),
        ("wsrl/point-maze", {**SMALL, "agent.critic_hidden": "[8, 8]"}),
        ("ppo/classic", SMALL_PPO),
    ],
)
def test_a_run_that_is_stopped_and_resumed_is_the_whole_one(
    preset: str, settings: dict[str, str], tmp_path: Path
) -> None:
    config = balrl.load_config(preset, settings={**settings, "device": "cuda"})
    assert balrl.train(config, tmp_path / "whole").finished
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "stopped", Interrupt(40, crash=True))
    assert balrl.resume(tmp_path / "stopped").finished
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "stopped")
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key


@pytest.mark.parametrize("preset", list(OFFLINE))
def test_with_data(preset: str, tmp_path: Path) -> None:
    walk(preset, tmp_path / "run", **{"finetune.utd_ratio": "1", **OFFLINE[preset]})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", list(ONLINE))
def test_online(preset: str, task: str, tmp_path: Path) -> None:
    if task == TASKS[2] and importlib.util.find_spec("mujoco_warp") is None:
        pytest.skip("the extra 'warp' is not installed")
    settings = {"pretrain.updates": "0", "finetune.utd_ratio": "0.5", **ONLINE[preset]}
    if preset.startswith("ppo"):
        settings = {**SMALL_PPO, "pretrain.updates": "0", "warmup.steps": "0", "env_kwargs": "{}"}
    walk(preset, tmp_path / "run", **settings, env=task)


def test_with_a_learned_reward(tmp_path: Path) -> None:
    learned = {"reward.pairs": "20", "reward.epochs": "2", "reward.hidden": "[8]", "reward.steps": "5"}
    names = walk("iql/point-maze", tmp_path / "run", **learned, **{"finetune.utd_ratio": "1"})
    assert any("proxy" in name for name in names), sorted(names)


@pytest.mark.parametrize("choice", ["selection", "champion", "bandit"])
def test_who_acts_is_chosen(choice: str, tmp_path: Path) -> None:
    settings = {
        "selection": {"warmup.select": "halving", "warmup.members": "2", "warmup.steps": "400"},
        "champion": {"finetune.serve": "champion", "champion.every": "10"},
        "bandit": {"finetune.member": "bandit"},
    }[choice]
    walk("famo2o-iql/point-maze", tmp_path / "run", **{**FAMILY, **settings})


def test_a_population_of_seeds(tmp_path: Path) -> None:
    config = balrl.load_config("iql/point-maze", settings={**SMALL, **ON, "finetune.utd_ratio": "1"})
    results = balrl.train_population(member_configs(config, [0, 1], {}), tmp_path / "population")
    assert len(results) == 2
    assert all(result.finished for result in results.values())
