"""What a dataset is like."""

from __future__ import annotations

import numpy as np
import pytest

from balrl.data.dataset import Dataset
from balrl.data.profile import profile


def made(
    episodes: int = 40, length: int = 50, noise: float = 0.0, seed: int = 0, rewards: np.ndarray | None = None
) -> Dataset:
    """Return episodes of random states whose actions are the state's sign, or partly chance."""
    rng = np.random.default_rng(seed)
    rows = episodes * length
    states = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    chance = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    actions = (1 - noise) * np.sign(states) + noise * chance
    ends = np.arange(rows) % length == length - 1
    return Dataset(
        observations=states,
        actions=actions,
        rewards=np.zeros(rows, np.float32) if rewards is None else rewards.astype(np.float32),
        next_observations=np.roll(states, -1, 0),
        terminated=np.zeros(rows, bool),
        truncated=ends,
        name="made",
    )


def test_disagreement_is_nothing_of_one_policy_and_all_of_chance() -> None:
    assert profile(made()).disagreement == pytest.approx(0, abs=0.08)
    assert profile(made(noise=1.0)).disagreement == pytest.approx(1, abs=0.08)
    half = profile(made(noise=0.5)).disagreement
    assert half is not None
    assert 0.2 < half < 0.8


def test_returns_rewards_and_sizes() -> None:
    rewards = np.zeros((40, 50))
    rewards[:10, -1] = 1.0  # ten of forty episodes pay once
    found = profile(made(rewards=rewards.ravel()))
    assert (found.transitions, found.episodes) == (2000, 40)
    assert found.common_reward == pytest.approx(1 - 10 / 2000)
    assert found.is_sparse
    assert found.paying == 0.25
    assert (found.low, found.best) == (0, 1)
    assert not found.is_narrow
    assert found.is_small
    assert not profile(made(episodes=200)).is_small


@pytest.mark.parametrize(("spread", "narrow"), [(0.05, True), (0.5, False)])
def test_narrow_is_within_a_tenth_of_the_best(spread: float, narrow: bool) -> None:
    rewards = np.repeat(np.linspace(1 - spread, 1, 40), 50)
    assert profile(made(rewards=rewards)).is_narrow == narrow
    assert not profile(made(rewards=rewards, noise=1.0)).is_narrow  # alike, and chance
    assert not profile(made(episodes=1, length=2000, rewards=rewards)).is_narrow


def test_scales_leave_constant_dimensions_out() -> None:
    data = made()
    data.observations[:, 0] *= 100
    assert profile(data).scales == pytest.approx(100, rel=0.1)
    data.observations[:, 1] = 3
    assert profile(data).scales == 1
    many = made(episodes=1000)
    many.observations[:, 0] = 1000.3
    assert profile(many).scales == 1


def test_small_rewards_are_told_apart_and_survival_is_not_sparse() -> None:
    dense = np.random.default_rng(0).normal(size=2000) * 1e-8
    assert not profile(made(rewards=dense)).is_sparse
    assert not profile(made(rewards=np.ones(2000))).is_sparse


def test_a_single_episode_has_no_neighbours() -> None:
    assert profile(made(episodes=1)).disagreement is None
