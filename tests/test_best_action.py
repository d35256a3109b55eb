"""Acting with the best of several samples."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import (
    BC,
    FQL,
    IQL,
    PPO,
    SAC,
    TD3BC,
    Agent,
    FastSAC,
    FastSACConfig,
    FQLConfig,
    IQLConfig,
    SACConfig,
    StateAdaptiveBalance,
)
from balrl.best_action import best_action, check_best_of, repeatable_policy
from balrl.conservative_objectives import conservative
from balrl.errors import UserError
from balrl.random_stream import RandomStream

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-2, 2, (2,))


def make(**config: object) -> IQL:
    torch.manual_seed(0)
    return IQL(OBSERVATIONS, ACTIONS, IQLConfig(hidden=(8, 8), critics=3, **config))


@pytest.mark.parametrize(("objective", "coefficient"), [("wco", None), ("mean", None), ("uwo", 2.0), ("single", 2)])
def test_it_is_the_sample_that_scores_highest(objective: str, coefficient: float | None) -> None:
    agent, observations = make(), torch.randn(5, 3)
    samples = agent.policy.sample(agent.normalizer(observations), RandomStream(7), 9)[0].clamp(-1, 1)
    found = best_action(agent, observations, 9, objective, coefficient, stream=RandomStream(7))
    for row in range(5):
        scores = [
            conservative(agent.critic(observations[row : row + 1], a[row : row + 1]), objective, coefficient)
            for a in samples
        ]
        assert torch.equal(found[row], samples[int(torch.cat(scores).argmax()), row])


def test_one_sample_is_a_sample() -> None:
    agent, observations = make(), torch.randn(5, 3)
    expected = agent.policy.sample(observations, RandomStream(1), 1)[0][0].clamp(-1, 1)
    torch.testing.assert_close(best_action(agent, observations, 1, stream=RandomStream(1)), expected)


def test_q_rises_with_n() -> None:
    agent, observations = make(), torch.randn(200, 3)
    means = [
        agent.q_values(observations, best_action(agent, observations, n, stream=RandomStream(2))).amin(0).mean().item()
        for n in (1, 4, 16, 64)
    ]
    assert means == sorted(means)
    assert means[-1] > means[0]


def test_predict_speaks_the_task_s_units_and_takes_members() -> None:
    agent = make(balance=StateAdaptiveBalance(1.0, 5.0, hidden=(8,)))
    observation = np.ones(3, np.float32)
    action, _ = agent.predict(observation, best_of=8, balance=2.0)
    assert ACTIONS.contains(action)
    many, _ = agent.predict(np.ones((4, 3), np.float32), best_of=8, objective="mean")
    assert many.shape == (4, 2)
    with pytest.raises(UserError, match="no objective 'wcoo'"):
        agent.predict(observation, best_of=8, objective="wcoo")


def test_a_champion_samples_and_the_critics_are_the_newest() -> None:
    agent, observations = make(), torch.randn(4, 3)
    agent.crown(agent.freeze())
    before = best_action(agent, observations, 4, stream=RandomStream(0))
    with torch.no_grad():
        agent.policy.mean.bias.add_(5.0)
    assert torch.equal(best_action(agent, observations, 4, stream=RandomStream(0)), before)
    assert not torch.equal(best_action(agent, observations, 4, stream=RandomStream(0), newest=True), before)


def test_an_evaluation_can_be_repeated_and_draws_nothing_from_training() -> None:
    agent, observations = make(), torch.randn(4, 3)
    position = agent.stream.position.clone()
    first, second = (repeatable_policy(agent, 4, "wco", 3) for _ in range(2))
    assert torch.equal(first(observations), second(observations))
    assert not torch.equal(first(observations), repeatable_policy(agent, 4, "wco", 3)(observations))  # it goes on
    assert torch.equal(agent.stream.position, position)
    assert torch.equal(repeatable_policy(agent, 1, "wco", 3)(observations), agent.serve(observations))


@pytest.mark.parametrize(
    "agent",
    [
        SAC(OBSERVATIONS, ACTIONS, SACConfig(hidden=(8, 8))),
        FQL(OBSERVATIONS, ACTIONS, FQLConfig(hidden=(8, 8))),
        FastSAC(OBSERVATIONS, ACTIONS, FastSACConfig(hidden=(8, 8), critic_hidden=(8,), atoms=5)),
    ],
    ids=lambda agent: type(agent).__name__,
)
def test_every_policy_that_samples(agent: Agent) -> None:
    assert best_action(agent, torch.randn(5, 3), 6).shape == (5, 2)


def test_who_cannot_is_told_so() -> None:
    for agent_class, message in ((BC, "needs critics"), (PPO, "needs critics"), (TD3BC, "a policy that samples")):
        agent = agent_class(OBSERVATIONS, ACTIONS)
        check_best_of(agent, 1)
        with pytest.raises(UserError, match=message):
            check_best_of(agent, 2)
    with pytest.raises(UserError, match="best_of is 0"):
        check_best_of(make(), 0)


def test_runs_are_evaluated_with_it(tmp_path: Path) -> None:
    settings = {
        "evaluation.best_of": 3,
        "evaluation.episodes": 2,
        "pretrain.updates": 20,
        "pretrain.eval_every": 10,
        "warmup.steps": 0,
        "finetune.steps": 0,
        "tracking.wandb": "off",
        "env_kwargs": {"max_episode_steps": 15},
    }
    balrl.train(balrl.load_config("iql/point-maze", settings=settings), tmp_path / "run")
    last = json.loads((tmp_path / "run" / "evaluations.json").read_text())[-1]
    again = balrl.evaluate(tmp_path / "run", episodes=2, best_of=3)
    assert again.mean_return == pytest.approx(last["return_mean"])
    with pytest.raises(UserError, match="a policy that samples"):
        balrl.train(balrl.load_config("td3bc/point-maze", settings=settings), tmp_path / "other")
