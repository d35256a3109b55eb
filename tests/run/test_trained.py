"""What can be done with a trained agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gymnasium.vector import SyncVectorEnv

import balrl
from balrl.agents import BC, SAC, BCConfig, SACConfig
from balrl.errors import UserError
from tests.faulty_env import FaultyEnv
from tests.run.small import (
    maze_config,
)


def test_the_family_s_members_differ_and_the_own_choice_is_among_them(tmp_path: Path) -> None:
    settings = {"pretrain.updates": "150", "warmup.steps": "0", "finetune.steps": "0", "env_kwargs": "{}"}
    balrl.train(maze_config(**settings), tmp_path / "run")
    curve = {b: balrl.evaluate(tmp_path / "run", episodes=20, balance=b).mean_return for b in (1.0, 2.0, 3.0, 4.0, 5.0)}
    assert len(set(curve.values())) > 1
    agent = balrl.load_agent(tmp_path / "run", device="cpu")
    observations = torch.rand(30, 4) * 2 - 1
    own = agent.act(observations, deterministic=True)
    chosen = agent.balance.mode(agent.normalizer(observations))
    assert torch.equal(own, agent.act(observations, deterministic=True, balance=chosen))


def test_evaluating_on_the_run_s_own_task_keeps_its_layout(tmp_path: Path) -> None:
    settings = {"env_kwargs": "{layout: large, max_episode_steps: 15}", "pretrain.updates": "0"}
    balrl.train(maze_config(**settings), tmp_path / "run")
    named = balrl.evaluate(tmp_path / "run", "balrl/PointMaze-v0", episodes=2)
    assert named.returns == balrl.evaluate(tmp_path / "run", episodes=2).returns
    assert named.reference is not None
    assert named.reference.minimum == -292.3


def test_loaded_agents_act_and_evaluate_as_trained(whole_run: Path) -> None:
    agent = balrl.load_agent(whole_run, device="cpu")
    last = json.loads((whole_run / "evaluations.json").read_text())[-1]
    result = balrl.evaluate(agent, "balrl/PointMaze-v0", episodes=2, env_kwargs={"max_episode_steps": 15})
    assert list(result.returns) == last["returns"]
    again = balrl.evaluate(whole_run, episodes=2)
    assert again.returns == result.returns
    with pytest.raises(UserError, match="made for 4 observations and 2 actions, environment Hopper-v5 has 11 and 3"):
        balrl.evaluate(agent, "Hopper-v5")
    with pytest.raises(UserError, match="does not know its own"):
        balrl.evaluate(agent)


def test_an_agent_is_evaluated_in_environments_that_are_handed_over(whole_run: Path) -> None:
    agent = balrl.load_agent(whole_run, device="cpu")
    expected = balrl.evaluate(whole_run, episodes=4, num_envs=2)
    env = balrl.make_env("balrl/PointMaze-v0", 2, kwargs={"max_episode_steps": 15})
    assert balrl.evaluate(agent, env, episodes=4).returns == expected.returns
    env.reset()  # it is not closed: it is its maker's
    made = balrl.evaluate(agent, lambda: balrl.make_env("balrl/PointMaze-v0", 2, kwargs={"max_episode_steps": 15}), 4)
    assert made.returns == expected.returns


def test_an_endless_task_is_evaluated_up_to_a_limit(whole_run: Path) -> None:
    agent = SAC(FaultyEnv.observation_space, FaultyEnv.action_space, SACConfig(hidden=(4,)))
    vector = SyncVectorEnv([lambda: FaultyEnv(length=None), lambda: FaultyEnv(length=3)], autoreset_mode="SameStep")
    found = balrl.evaluate(agent, vector, episodes=5, max_episode_steps=7)
    assert found.lengths == (7, 7, 7, 3, 3)  # the first world has three of them, and begins anew each time


def test_weights_that_are_not_finite_are_not_evaluated() -> None:
    agent = SAC(FaultyEnv.observation_space, FaultyEnv.action_space, SACConfig(hidden=(4,)))
    with torch.no_grad():
        agent.policy.mean.bias[0] = torch.nan
    with pytest.raises(UserError, match=r"the agent's 'policy\.mean\.bias' is not finite: its training diverged"):
        balrl.evaluate(agent, FaultyEnv)


def test_a_family_is_played_and_estimated(tmp_path: Path) -> None:
    balrl.train(maze_config(), tmp_path / "run")
    found = balrl.family(tmp_path / "run", episodes=3, members=3, offline_updates=20)
    assert [record["label"] for record in found] == ["own choice", "1", "2.24", "5"]
    assert all(record["episodes"] == 3 for record in found)
    assert {"mean", "score", "success_rate", "mean_q", "conservative_q", "fitted_q"} <= found[0].keys()
    alone = balrl.evaluate(tmp_path / "run", episodes=3, balance=5.0)
    assert found[3]["mean"] == pytest.approx(alone.mean_return)
    without = balrl.family(tmp_path / "run", episodes=2, members=2, dataset=None, offline_updates=0)
    assert "fitted_q" not in without[0]


def test_offline_evaluation_needs_data_and_a_member_that_exists(whole_run: Path, tmp_path: Path) -> None:
    found = balrl.evaluate_offline(whole_run, balance=2.0, updates=5)
    assert set(found) == {"mean_q", "conservative_q", "fitted_q"}
    with pytest.raises(UserError, match="out of this family's range, 1 to 5"):
        balrl.evaluate_offline(whole_run, balance=7.0)
    agent = balrl.load_agent(whole_run)
    with pytest.raises(UserError, match="which data"):
        balrl.evaluate_offline(agent.save(tmp_path / "agent"))
    spaces = agent.spaces
    imitator = BC(spaces.observation_space, spaces.action_space, BCConfig(hidden=(8,))).save(tmp_path / "imitator")
    assert set(balrl.evaluate_offline(imitator, "point-maze-mixed", updates=5)) == {"fitted_q"}
    with pytest.raises(UserError, match="agent bc has no critics"):
        balrl.evaluate_offline(imitator, "point-maze-mixed", updates=0)
