from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balrl.data.dataset import Dataset
from balrl.data.reward_lag import FEW, shifted_rewards
from balrl.run.registry import load_dataset


def moved(dataset: Dataset, rows: int) -> Dataset:
    return replace(dataset, rewards=np.roll(dataset.rewards, rows))


def walk(rows: int = 3_000, noise: float = 0.0) -> Dataset:
    """A point that is pushed about; the reward is how far it came, less what the push costs."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    positions = np.concatenate([np.zeros((1, 2)), np.cumsum(actions, 0)]).astype(np.float32)
    rewards = actions[:, 0] - 0.1 * (actions**2).sum(-1) + noise * rng.normal(size=rows)
    ends = np.arange(rows) % 100 == 99
    return Dataset(positions[:-1], actions, rewards.astype(np.float32), positions[1:], ends & False, ends)


@pytest.mark.parametrize(("rows", "message"), [(1, "a row too late.*following"), (-1, "a row too early.*preceding")])
def test_dense_rewards_of_other_rows_are_found(rows: int, message: str) -> None:
    assert not shifted_rewards(walk())
    (found,) = shifted_rewards(moved(walk(), rows))
    assert re.search(message, found)


def test_rewards_that_nothing_explains_are_not_judged() -> None:
    assert not shifted_rewards(moved(walk(noise=5.0), 1))
    assert not shifted_rewards(moved(walk(FEW // 2), 1))
    still = replace(walk(), rewards=np.ones(3_000, np.float32))
    assert not shifted_rewards(still)


@pytest.mark.parametrize("name", ["point-maze-mixed", "point-maze-fork"])
def test_sparse_rewards_belong_to_the_rows_that_terminate(name: str) -> None:
    data = load_dataset(name)
    assert not shifted_rewards(data)
    assert "a row too late" in shifted_rewards(moved(data, 1))[0]
    assert "a row too early" in shifted_rewards(moved(data, -1))[0]


@pytest.mark.parametrize("name", ["hopper", "walker2d", "halfcheetah"])
def test_on_data_that_others_made(name: str, shared_data: Path) -> None:
    data = load_dataset(shared_data / f"{name}-mixed-v5.hdf5")
    assert not shifted_rewards(data)
    assert "a row too late" in shifted_rewards(moved(data, 1))[0]
    assert "a row too early" in shifted_rewards(moved(data, -1))[0]
