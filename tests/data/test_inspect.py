from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balrl.data.d4rl import load_d4rl
from balrl.data.dataset import Dataset
from balrl.data.inspect import TaskContext, describe, problems
from tests.conftest import make_dataset

CLEAN = make_dataset((5, 4, 6, 5), (True, False, True, False))


def broken(**changes: np.ndarray) -> Dataset:
    return replace(CLEAN, **changes)


def changed(name: str, index: object, value: object) -> np.ndarray:
    array = getattr(CLEAN, name).copy()
    array[index] = value
    return array


def test_clean_data_has_no_problems() -> None:
    assert problems(CLEAN) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (broken(rewards=changed("rewards", 3, np.nan)), "rewards: 1 rows are NaN or infinite, the first is row 3"),
        (broken(observations=changed("observations", (2, 0), np.inf)), "observations: 1 rows"),
        (broken(next_observations=changed("next_observations", 1, 99)), "an episode's end is missing there"),
        (broken(truncated=changed("truncated", 8, False)), "an episode's end is missing there"),
        (broken(observations=CLEAN.observations[::-1].copy()), "the rows are unsorted"),
        (broken(rewards=np.zeros(20, np.float32)), "all rewards are zero"),
        (
            broken(rewards=np.full(20, -1, np.float32), terminated=np.zeros(20, bool)),
            "all rewards are -1 and no episode terminates",
        ),
        (broken(actions=np.zeros((20, 1), np.float32)), "action dimensions [0] never change"),
    ],
)
def test_finds(data: Dataset, expected: str) -> None:
    found = problems(data)
    assert any(expected in problem for problem in found), found


def test_terminals_where_timeouts_are_meant() -> None:
    data = make_dataset((10, 10, 3, 10), (True, True, True, True))
    [problem] = problems(data)
    assert "3 of 4 terminals fall on step 10" in problem
    assert problems(data, TaskContext(max_episode_steps=50)) == []
    assert problems(make_dataset((10, 10, 3, 10), (False, False, True, False))) == []


def test_actions_out_of_the_task_s_bounds() -> None:
    context = TaskContext(np.array([-0.5]), np.array([0.5]), 2, 1)
    [problem] = problems(CLEAN, context)
    assert "out of the task's bounds" in problem
    assert f"{int((np.abs(CLEAN.actions) > 0.5).sum())} action values" in problem


def test_data_of_another_task() -> None:
    context = TaskContext(np.zeros(3), np.ones(3), 11, 3)
    assert "observations have 2 dimensions, the task has 11" in problems(CLEAN, context)[0]


def test_description_names_everything() -> None:
    rows = dict(describe(CLEAN).rows)
    assert rows["transitions"] == "20"
    assert rows["episodes"] == "4"
    assert rows["ends"] == "2 terminated, 2 truncated"
    assert "mean 5.0; min 4.0" in rows["episode length"]


def test_real_files_are_clean(shared_data: Path) -> None:
    for name in ("hopper", "halfcheetah", "walker2d"):
        assert problems(load_d4rl(shared_data / f"{name}-mixed-v5.hdf5")) == []
