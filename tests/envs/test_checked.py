from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from balrl.batch import Batch
from balrl.envs.checked import MOST_IN_A_ROW, CheckedWorld
from balrl.envs.gymnasium_env import DEFAULT_LIMIT, side_by_side, time_limit
from balrl.errors import EnvironmentFault
from balrl.returns import MonteCarlo, RunningEpisodes
from balrl.rollout import ABORTED, Collector
from tests.faulty_env import FAULTS, FaultyEnv

MESSAGES = {
    "nan-reward": "reward is nan, expected a finite number",
    "infinite-reward": "reward is np.float64.inf., expected a finite number",
    "no-reward": "reward is None, expected a finite number",
    "text-reward": "reward is 'much', expected a finite number",
    "nan-observation": r"observation is nan at \[0\], expected finite numbers",
    "short-observation": r"observation has shape \(1,\), expected \(2,\)",
    "no-observation": r"observation (is None|has shape \(\))",
    "text-observation": r"observation is 'here', expected numbers of shape \(2,\)",
    "no-flag": "terminated is None, expected true or false",
    "four-values": "step raised ValueError: not enough values to unpack",
    "nothing": "step raised TypeError: cannot unpack",
    "raises": "step raised OSError: the robot fell over",
}


def act(observations: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(observations), 1)


@pytest.mark.parametrize("fault", [*FAULTS, "raises"])
def test_a_fault_stops_naming_world_step_and_field(fault: str) -> None:
    worlds = [FaultyEnv(), FaultyEnv(fault, at=3, episode=1)]
    collector = Collector(side_by_side(worlds))
    for _ in range(10):
        collector.step(act)
    with pytest.raises(EnvironmentFault, match=f"world 1, step 3 of its episode: {MESSAGES[fault]}"):
        collector.step(act)


@pytest.mark.parametrize("fault", [*FAULTS, "raises"])
def test_a_fault_ends_the_episode_where_that_is_wanted(fault: str) -> None:
    collector = Collector(side_by_side([FaultyEnv(), FaultyEnv(fault, at=3, episode=1)], ends_episode=True))
    steps = [collector.step(act) for _ in range(24)]
    failed = [i for i, step in enumerate(steps) if step.valid is not None and not step.valid[1]]
    assert failed == [10]
    assert steps[10].done.tolist() == [False, True]
    assert steps[10].valid is not None
    assert steps[10].valid.tolist() == [True, False]
    assert collector.observations[1].tolist() != [0, 0]
    kept = [step.batch.observations[1, 0].item() for step in steps]
    assert kept[8:14] == [0, 1, 2, 0, 1, 2]  # the third episode begins after two whole steps
    assert not any(step.batch.terminated.any() for step in steps)
    assert collector.pop_ended()["length"] == 8  # the aborted one is not counted


def test_a_world_that_never_works_is_given_up() -> None:
    world = CheckedWorld(FaultyEnv("raises", at=1, episode=None), 0, ends_episode=True)
    world.reset()
    for _ in range(MOST_IN_A_ROW - 1):
        assert world.step(np.zeros(1))[4] == {ABORTED: True}
        world.reset()
    with pytest.raises(EnvironmentFault, match="the robot fell over"):
        world.step(np.zeros(1))


def test_a_reset_that_fails_always_stops() -> None:
    world = CheckedWorld(FaultyEnv("reset", episode=None), 4, ends_episode=True)
    with pytest.raises(EnvironmentFault, match="world 4, step 0 of its episode: reset raised OSError: the robot is"):
        world.reset()


def test_running_episodes_take_an_aborted_one_as_cut_a_step_before() -> None:
    episodes = RunningEpisodes(2, MonteCarlo(0.5))

    def step(t: int) -> Batch:
        x = torch.full((2, 1), float(t))
        return Batch(x, x, torch.ones(2), x + 1, torch.zeros(2, dtype=torch.bool))

    never, fails = torch.tensor([False, False]), torch.tensor([False, True])
    assert episodes.add(step(0), never) is None
    assert episodes.add(step(1), never) is None
    ended = episodes.add(step(2), fails, ~fails)
    assert ended is not None
    assert ended.observations.flatten().tolist() == [0, 1]
    assert len(episodes) == 3  # the other world's
    assert episodes.add(step(3), fails, ~fails) is None  # a world that fails at once had no episode
    ended = episodes.add(step(4), torch.tensor([True, False]))
    assert ended is not None
    assert ended.observations.flatten().tolist() == [0, 1, 2, 3, 4]


def test_tasks_without_an_end_get_one_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="has no step limit: its episodes are cut at 10,000 steps"):
        env = side_by_side([FaultyEnv(length=None)])
    assert time_limit(env.unwrapped.envs[0]) == DEFAULT_LIMIT  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = side_by_side([FaultyEnv(length=None) for _ in range(2)], max_episode_steps=5)
    collector = Collector(env)
    assert [bool(collector.step(act).done.all()) for _ in range(5)] == [False] * 4 + [True]


def test_a_limit_of_its_own_is_replaced_and_not_nested() -> None:
    import gymnasium as gym

    env = side_by_side([gym.wrappers.TimeLimit(FaultyEnv(length=None), 3)], max_episode_steps=5)
    assert time_limit(env.unwrapped.envs[0]) == 5  # type: ignore[attr-defined]
    collector = Collector(env)
    assert [bool(collector.step(partial(act)).done.all()) for _ in range(5)] == [False] * 4 + [True]
