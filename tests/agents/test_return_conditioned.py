"""What is asked of agents that are conditioned on returns."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import RvS, RvSConfig
from balrl.errors import UserError
from tests.run.small import SMALL, Interrupt, final_state

BOX = gym.spaces.Box(-1, 1, (2,))
OFFLINE = {**SMALL, "finetune.steps": "0", "warmup.steps": "0"}
TINY_DT = {"agent.width": "8", "agent.layers": "1", "agent.sequence_length": "4"}


def make(**config: object) -> RvS:
    return RvS(BOX, BOX, RvSConfig(hidden=(4,), **config))


def test_the_best_in_the_data_is_asked_for() -> None:
    agent = make()
    agent.see_returns(np.array([3.0, 70.0, -1.0]), None)
    assert agent.targets(torch.zeros(2, 2)).tolist() == [[70.0], [70.0]]
    agent.aim(5)
    assert agent.targets(torch.zeros(1, 2)).tolist() == [[5.0]]
    with pytest.raises(UserError, match="the target has 2 numbers, expected 1"):
        agent.aim([1.0, 2.0])
    said = make(target_return=(9.0,))
    said.see_returns(np.array([3.0, 70.0]), None)
    assert said.target.tolist() == [9.0]


def test_under_a_preference_what_good_episodes_of_like_preference_returned() -> None:
    """Efficient returns on a line are found again; what they dominate is left out."""
    agent = make(objectives=2)
    w = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    returns = np.array([[0.0, 10.0], [10.0, 5.0], [20.0, 0.0], [-5.0, -5.0]])
    agent.see_returns(returns, w)
    seen = torch.cat([torch.zeros(3, 2), torch.from_numpy(w[:3]).float()], -1)
    torch.testing.assert_close(agent.targets(agent.normalizer(seen)), torch.from_numpy(returns[:3]).float())
    agent.aim([1.0, 2.0])
    assert agent.targets(agent.normalizer(seen))[0].tolist() == [1.0, 2.0]


def test_few_efficient_episodes_are_asked_for_under_every_preference() -> None:
    agent = make(objectives=2)
    agent.see_returns(np.array([[4.0, 6.0], [1.0, 1.0]]), np.array([[0.5, 0.5], [0.4, 0.6]]))
    for w in ([1.0, 0.0], [0.0, 1.0]):
        agent.prefer(w)
        torch.testing.assert_close(agent.targets(agent.normalizer(torch.zeros(1, 2))), torch.tensor([[4.0, 6.0]]))


def test_a_preference_is_said_once_for_all() -> None:
    agent, observation = make(objectives=2), np.ones((1, 2), np.float32)
    asked, _ = agent.predict(observation, preference=[1.0, 0.0])
    agent.prefer([1.0, 0.0])
    np.testing.assert_array_equal(agent.predict(observation)[0], asked)
    with pytest.raises(UserError, match="has no preference to ask for"):
        make().prefer([1.0])


def test_what_predict_cannot_do_is_refused() -> None:
    agent, observation = make(), np.ones((2, 2), np.float32)
    with pytest.raises(UserError, match="best_of=4 scores single observations, agent rvs remembers the episode"):
        agent.predict(observation, best_of=4)
    with pytest.raises(ValueError, match="not a family"):
        agent.predict(observation, balance=2.0)
    with pytest.raises(UserError, match=r"the reward has shape \(3,\), expected \(2,\) of 2 observations"):
        agent.predict(observation, reward=[1.0, 2.0, 3.0])
    for target, said in (("much", "'much', expected 1 numbers"), (float("nan"), "finite"), ([1.0, 2.0], "2 numbers")):
        with pytest.raises(UserError, match=said):
            agent.aim(target)


@pytest.mark.parametrize("name", ["dt", "rvs"])
def test_trained_stopped_resumed_and_asked_for_more(name: str, tmp_path: Path) -> None:
    settings = {key: value for key, value in OFFLINE.items() if name == "rvs" or key != "agent.hidden"}
    settings |= {"agent.target_return": "null", **(TINY_DT if name == "dt" else {})}
    config = balrl.load_config(f"{name}/point-maze", settings=settings)
    one, other = tmp_path / "one", tmp_path / "other"
    assert balrl.train(config, one).finished
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, other, Interrupt(7, crash=True))
    assert balrl.resume(other).finished
    expected, got = final_state(one), final_state(other)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    agent = balrl.load_agent(one)
    assert agent.target.item() == balrl.load_dataset("point-maze-mixed").episode_returns.max()
    result = balrl.evaluate(agent, "balrl/PointMaze-v0", episodes=3, max_episode_steps=5)
    assert result.lengths == (5, 5, 5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"finetune.steps": "10"}, "agent rvs learns from logged data alone: set warmup.steps=0 and finetune.steps=0"),
        ({"data.reward_scale": "0.1"}, r"agent rvs asks for raw returns: .* set agent\.return_scale"),
        ({"reward.pairs": "20"}, "agent rvs takes the task's rewards off its target"),
        ({"evaluation.best_of": "4"}, "best_of=4 scores single observations"),
    ],
)
def test_what_does_not_compose_is_refused_in_one_line(settings: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as raised:
        balrl.train(balrl.load_config("rvs/point-maze", settings={**OFFLINE, **settings}), tmp_path / "run")
    assert "\n" not in str(raised.value)
