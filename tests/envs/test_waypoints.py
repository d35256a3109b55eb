"""The scripted controller's data: how much, where episodes end, and how well each part is driven."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from balrl.data.dataset import Dataset
from balrl.envs.point_maze import PointMazeVectorEnv
from balrl.envs.waypoints import (
    MIXED,
    OPTIMAL,
    RANDOM,
    Level,
    WaypointController,
    fork_dataset,
    halves_dataset,
    mixed_dataset,
)


def steered(data: Dataset, speed: float = 1.0) -> np.ndarray:
    """Return what the controller does where the data was."""
    env = PointMazeVectorEnv(1, dtype=torch.float64)
    states = env.states_of(torch.from_numpy(data.observations).double())
    return WaypointController(env)(states, speed).numpy()


def test_data_is_rounded_up_to_whole_worlds_and_every_world_s_recording_ends_its_episode() -> None:
    data = mixed_dataset(2_001, "umaze", seed=1, num_envs=4, name="few")
    assert (len(data), data.name, data.env_id) == (2_004, "few", "balrl/PointMaze-v0")
    assert (data.terminated | data.truncated)[500::501].all()
    ends, lengths = np.flatnonzero(data.ends), data.episode_lengths
    cut = data.truncated[ends] & ~data.terminated[ends]
    assert np.array_equal(cut, ~data.terminated[ends])
    assert (lengths[cut & (ends % 501 != 500)] == 200).all()  # the task's limit
    assert (lengths == 200).any()
    assert lengths.max() == 200
    assert np.array_equal(data.rewards, data.terminated - 1.0)
    env = PointMazeVectorEnv(1, "umaze")
    places = env.states_of(torch.from_numpy(data.next_observations))[:, :2]
    reached = (places - env.goal).norm(dim=-1) < 0.5
    assert np.array_equal(reached.numpy(), data.terminated)


def test_each_level_is_driven_as_it_says() -> None:
    fast, slow = (mixed_dataset(2_000, levels=[OPTIMAL._replace(speed=speed)]) for speed in (1.0, 0.5))
    for data, speed in ((fast, 1.0), (slow, 0.5)):
        np.testing.assert_allclose(data.actions, steered(data, speed), rtol=0, atol=1e-4)
        assert 0.85 * speed < np.abs(data.observations[:, 2:]).max() <= speed + 1e-6
    noisy = mixed_dataset(20_000, levels=[Level(speed=0.3, noise=0.2, random=0.0, share=1.0)])
    off = (noisy.actions - steered(noisy, 0.3))[np.abs(noisy.actions).max(1) < 1]
    assert off.std() == pytest.approx(0.2, rel=0.05)
    partly = mixed_dataset(20_000, levels=[Level(speed=1.0, noise=0.0, random=0.25, share=1.0)])
    at_random = np.abs(partly.actions - steered(partly)).max(1) > 1e-4
    assert at_random.mean() == pytest.approx(0.25, abs=0.01)
    assert kstest(partly.actions[at_random].ravel(), "uniform", (-1, 2)).pvalue > 0.01


def test_an_episode_is_driven_at_one_level_and_levels_come_as_often_as_their_shares_say() -> None:
    levels = [OPTIMAL._replace(share=3.0), OPTIMAL._replace(speed=0.5, share=1.0)]
    data = mixed_dataset(20_000, levels=levels, num_envs=500)
    fast = np.abs(data.actions - steered(data)).max(1) < 1e-4
    slow = np.abs(data.actions - steered(data, 0.5)).max(1) < 1e-4
    assert all(fast[s].all() or slow[s].all() for s in data.episode_slices)
    assert len(data.episode_slices) > 600
    assert np.mean([fast[s].all() for s in data.episode_slices[:-1]]) == pytest.approx(0.75, abs=0.06)


def test_mixed_levels_go_from_good_to_bad() -> None:
    returns = [mixed_dataset(20_000, levels=[level]).episode_returns.mean() for level in (OPTIMAL, *MIXED)]
    assert (np.diff(returns) < 0).all()


def test_halves_are_optimal_on_the_left_and_random_on_the_right() -> None:
    data = halves_dataset(10_000, seed=5)
    assert (len(data), data.name) == (10_000, "point-maze-halves")
    assert data.fingerprint() == halves_dataset(10_000, seed=5).fingerprint()
    left = data.observations[:, 0] < 0  # scaled to [-1, 1] over the maze
    np.testing.assert_allclose(data.actions[left], steered(data)[left], rtol=0, atol=1e-4)
    assert kstest(data.actions[~left].ravel(), "uniform", (-1, 2)).pvalue > 0.01
    assert left.sum() > 300
    assert RANDOM.random == 1


def test_the_fork_is_passed_on_both_sides_of_both_obstacles() -> None:
    data = fork_dataset("point-maze-fork-good")
    env = PointMazeVectorEnv(1, "fork")
    places = env.states_of(torch.from_numpy(data.observations))[:, :2].long().tolist()
    sides = []
    for rows in data.episode_slices:
        if data.terminated[rows.stop - 1]:
            seen = {tuple(place) for place in places[rows]}
            sides.append(tuple((x, 1) in seen for x in (3, 9)))
            assert {tuple(places[rows.start])} == {(1, 3)}  # all begin in one cell
    assert len(sides) > 100
    counts = {side: sides.count(side) for side in set(sides)}
    assert len(counts) == 4
    assert min(counts.values()) > 0.15 * len(sides)
    assert fork_dataset().terminated.sum() < 60  # the mixed drivers rarely arrive
