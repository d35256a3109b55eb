"""Groups of trajectories are what the task does to a policy, until their episodes end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from balrl.envs import MountainCarVectorEnv, PointMazeVectorEnv
from balrl.envs.waypoints import WaypointController
from balrl.random_stream import RandomStream
from balrl.studies.config import StudyConfig
from balrl.studies.trajectories import make_worlds, roll

MAZE = StudyConfig(env="balrl/PointMaze-v0", env_kwargs={"layout": "umaze", "max_episode_steps": 25})
PENDULUM = StudyConfig(env="balrl/Pendulum-v1", env_kwargs={"max_episode_steps": 5})


class Noise:
    """Acts at random, far beyond the bounds, too."""

    def __init__(self) -> None:
        self.stream = RandomStream(99)

    def explore(self, observations: Tensor) -> Tensor:
        return 1.5 * self.stream.normal(len(observations), 1)


class Driver(Noise):
    """Drives through the maze, more or less."""

    def explore(self, observations: Tensor) -> Tensor:
        env = PointMazeVectorEnv(1, "umaze")
        return WaypointController(env)(env.states_of(observations)) + self.stream.normal(len(observations), 2)


def test_nothing_is_earned_after_the_end_of_an_episode() -> None:
    """The maze pays −1 for every step but the one that reaches the goal, and nobody lives beyond that one."""
    agent: Any = Driver()
    made = roll(MAZE, agent, groups=5, size=20, seed=0)
    lengths = made.alive.sum(0)
    assert made.alive.shape == made.rewards.shape == (25, 5, 20)
    assert torch.equal(made.alive, torch.arange(25).view(-1, 1, 1) < lengths)
    last = made.rewards.gather(0, (lengths - 1).unsqueeze(0)).squeeze(0)
    reached = last == 0
    assert torch.equal(made.rewards.sum(0), -(lengths - reached.long()).float())
    assert (lengths[~reached] == 25).all()
    assert 10 < reached.sum() < 100
    assert len(lengths.unique()) > 10


def test_actions_are_the_policy_s_within_the_bounds_and_rewards_are_what_the_task_pays_for_them() -> None:
    """The pendulum's ``−(θ² + 0.1 θ̇² + 0.001 u²)`` for torques of up to 2."""
    agent: Any = Noise()
    made = roll(PENDULUM, agent, groups=4, size=50, seed=1)
    assert (made.actions.abs() == 1).float().mean() == pytest.approx(0.505, abs=0.05)  # P(|1.5 z| > 1)
    cos, sin, speed = made.observations.double().unbind(-1)
    torque = 2 * made.actions.squeeze(-1).double()
    expected = -(torch.atan2(sin, cos).square() + 0.1 * speed.square() + 0.001 * torque.square())
    torch.testing.assert_close(made.rewards.double(), expected, rtol=1e-5, atol=1e-5)
    following = (speed + (15 * sin + 3 * torque) * 0.05).clamp(-8, 8)
    torch.testing.assert_close(speed[1:], following[:-1], rtol=1e-4, atol=1e-4)
    assert (made.observations[0] == made.observations[0, :, :1]).all()


def test_the_seed_is_of_the_first_states_and_of_the_policy_whatever_was_drawn_before() -> None:
    agent: Any = Noise()
    first, again = (roll(PENDULUM, agent, groups=2, size=3, seed=4) for _ in range(2))
    other = roll(PENDULUM, agent, groups=2, size=3, seed=5)
    for one, same, another in zip(first[:3], again[:3], other[:3], strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, another)
    firsts = make_worlds(PENDULUM, 6)
    assert torch.equal(first.observations[0, :, 0], firsts.reset(seed=4)[0][::3])


def test_worlds_are_made_as_the_protocol_says() -> None:
    worlds = make_worlds(StudyConfig(env="balrl/MountainCarContinuous-v0", env_kwargs={"max_episode_steps": 7}), 3)
    assert isinstance(worlds, MountainCarVectorEnv)
    assert (worlds.num_envs, worlds.max_episode_steps, worlds.device.type) == (3, 7, "cpu")
