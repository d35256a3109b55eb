"""Estimates from logged data: right where the answer is known."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import BC, IQL, BCConfig, IQLConfig
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.run.offline_evaluation import estimate_offline

BOX = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (1,))


def chain(episodes: int = 200, length: int = 4) -> Dataset:
    """Episodes of four steps that pay the action that is taken; observations count the steps."""
    rng = np.random.default_rng(0)
    n = episodes * length
    t = np.tile(np.arange(length), episodes)
    observations = np.stack([t / length, np.ones(n)], -1).astype(np.float32)
    actions = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    following = observations + np.array([1 / length, 0], np.float32)
    return Dataset.from_arrays(
        {
            "observations": observations,
            "actions": actions,
            "rewards": actions[:, 0],
            "next_observations": following,
            "terminated": t == length - 1,
            "truncated": np.zeros(n, bool),
        },
        name="chain",
    )


def always(value: float):  # type: ignore[no-untyped-def]
    return lambda observations: torch.full((len(observations), 1), value)


@pytest.mark.slow
def test_fitted_q_evaluation_finds_the_returns_of_policies_that_the_data_never_followed() -> None:
    agent = IQL(*BOX, IQLConfig(hidden=(8,), discount=0.9))
    found = estimate_offline(agent, [always(0.8), always(-0.5)], chain(), RewardTransform(2.0, 0.0), updates=1_500)
    whole = 2.0 * sum(0.9**i for i in range(4))
    assert found[0]["fitted_q"] == pytest.approx(0.8 * whole, abs=0.25)
    assert found[1]["fitted_q"] == pytest.approx(-0.5 * whole, abs=0.25)


def test_the_critics_means_are_the_agent_s_and_an_agent_without_critics_has_none() -> None:
    data = chain(5)
    agent = IQL(*BOX, IQLConfig(hidden=(8,)))
    found = estimate_offline(agent, [always(0.3)], data, RewardTransform(1.0, 0.0), updates=0)
    assert set(found[0]) == {"mean_q", "conservative_q"}
    assert found[0]["conservative_q"] < found[0]["mean_q"]
    cloned = BC(*BOX, BCConfig(hidden=(8,)))
    assert set(estimate_offline(cloned, [always(0.3)], data, RewardTransform(1.0, 0.0), updates=3)[0]) == {"fitted_q"}


def test_estimates_draw_nothing_from_anybody_else_s_random_numbers() -> None:
    agent, data = IQL(*BOX, IQLConfig(hidden=(8,))), chain(5)
    before = torch.random.get_rng_state(), agent.stream.position.clone()
    one, other = (estimate_offline(agent, [always(0.1)], data, RewardTransform(1.0, 0.0), updates=3) for _ in "ab")
    assert one == other
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.equal(agent.stream.position, before[1])


def test_data_of_another_task_is_refused() -> None:
    agent = IQL(gym.spaces.Box(-1, 1, (5,)), BOX[1], IQLConfig(hidden=(8,)))
    with pytest.raises(UserError, match="2"):
        estimate_offline(agent, [always(0.1)], chain(3), RewardTransform(1.0, 0.0), updates=1)
