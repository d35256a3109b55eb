from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch

from balrl.batch import Batch
from balrl.rewards.recent import RecentInteraction
from balrl.rollout import Step
from balrl.spaces import SpaceAdapter

SPACES = SpaceAdapter(gym.spaces.Box(-9, 9, (1,)), gym.spaces.Box(-2, 2, (1,)))


def vector_step(t: int, done: list[bool], valid: list[bool] | None = None) -> Step:
    x = torch.tensor([float(t), 100.0 + t])
    batch = Batch(x[:, None], torch.tensor([[0.5], [3.0]]), x, x[:, None], torch.tensor([False, False]))
    flags = None if valid is None else torch.tensor(valid)
    return Step(batch, flags, torch.tensor(done), x.double(), x.long(), None, None)


def test_the_newest_steps_come_out_world_after_world_cut_where_episodes_end() -> None:
    recording = RecentInteraction(4, 2, SPACES)
    for t in range(6):
        recording.add(vector_step(t, [t == 3, False]))
    data = recording.dataset("Task-v0")
    assert data.rewards.tolist() == [2, 3, 4, 5, 102, 103, 104, 105]
    assert [(s.start, s.stop) for s in data.episode_slices] == [(0, 2), (2, 4), (4, 8)]
    np.testing.assert_allclose(data.actions[[0, 4], 0], [1.0, 2.0])  # units of the task, within its bounds


def test_reset_rows_are_left_out_and_nothing_reaches_over_them() -> None:
    recording = RecentInteraction(5, 2, SPACES)
    for t in range(4):
        recording.add(vector_step(t, [t == 1, False], [t != 2, True]))
    data = recording.dataset("Task-v0")
    assert data.rewards.tolist() == [0, 1, 3, 100, 101, 102, 103]
    assert [(s.start, s.stop) for s in data.episode_slices] == [(0, 2), (2, 3), (3, 7)]


def test_state_is_everything() -> None:
    one, other = RecentInteraction(3, 2, SPACES), RecentInteraction(3, 2, SPACES)
    for t in range(4):
        one.add(vector_step(t, [False, False]))
    other.load_state_dict({k: v.clone() for k, v in one.state_dict().items()})
    for recording in (one, other):
        recording.add(vector_step(4, [True, False]))
    assert one.dataset("x").rewards.tolist() == other.dataset("x").rewards.tolist() == [2, 3, 4, 102, 103, 104]


def test_actions_are_those_that_the_task_got() -> None:
    recent = RecentInteraction(2, 2, SPACES)
    step = vector_step(0, [False, False])
    for chosen in (-3.0, -0.25):
        recent.add(step._replace(batch=step.batch._replace(actions=torch.full((2, 1), chosen))))
    assert recent.dataset("Task-v0").actions[:, 0].tolist() == [-2.0, -0.5, -2.0, -0.5]
    assert recent.taken == 2
