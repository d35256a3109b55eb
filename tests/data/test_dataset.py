from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, strategies as st

from balrl.data.d4rl import load_d4rl
from balrl.data.dataset import Dataset
from balrl.data.inspect import problems
from balrl.data.prepare import check_finite
from balrl.errors import UserError
from balrl.returns import MonteCarlo
from tests.conftest import make_dataset


def test_episodes() -> None:
    data = make_dataset()
    assert [(s.start, s.stop) for s in data.episode_slices] == [(0, 3), (3, 5), (5, 9)]
    assert data.episode_lengths.tolist() == [3, 2, 4]
    assert data.episode_returns.tolist() == [1 + 2 + 3, 4 + 5, 6 + 7 + 8 + 9]
    assert data.terminated.tolist() == [False, False, True] + [False] * 6
    assert np.flatnonzero(data.truncated).tolist() == [4, 8]


def test_mc_returns_under_each_truncation() -> None:
    data = make_dataset()
    g = 0.5
    terminated = [1 + g * (2 + g * 3), 2 + g * 3, 3]
    last = [6 + g * (7 + g * (8 + g * 9)), 7 + g * (8 + g * 9), 8 + g * 9, 9]
    np.testing.assert_allclose(data.mc_returns(MonteCarlo(g)), [*terminated, 4 + g * 5, 5, *last])
    tail = data.mc_returns(MonteCarlo(g, "last_reward"))
    np.testing.assert_allclose(tail[:5], [*terminated, 4 + g * (5 + g * 5 / (1 - g)), 5 + g * 5 / (1 - g)])
    cut = data.mc_returns(MonteCarlo(g, "none"))
    np.testing.assert_allclose(cut[:3], terminated)
    assert np.isneginf(cut[3:]).all()


def test_mc_returns_of_sparse_tasks() -> None:
    """An episode that only ever pays the step penalty pays it for ever."""
    data = replace(make_dataset(), rewards=np.array([-1, -1, 0, -1, -1, -1, -1, -1, -1], np.float32))
    returns = data.mc_returns(MonteCarlo(0.9, step_penalty=-1.0))
    np.testing.assert_allclose(returns, [-1 - 0.9, -1, 0, *[-10] * 6], rtol=1e-6)
    with pytest.raises(ValueError, match="discount is 1"):
        MonteCarlo(1.0, "last_reward")
    assert np.isneginf(data.mc_returns(MonteCarlo(0.0, "none"))[3:]).all()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.floats(0, 0.999), st.integers(0, 99))
def test_mc_returns_satisfy_the_bellman_equation(lengths: list[int], discount: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = make_dataset(tuple(lengths), tuple(bool(x) for x in rng.integers(0, 2, len(lengths))))
    returns = data.mc_returns(MonteCarlo(discount)).astype(np.float64)
    for s in data.episode_slices:
        following = np.r_[returns[s][1:], 0.0]
        np.testing.assert_allclose(returns[s], data.rewards[s] + discount * following, rtol=1e-5)


def test_next_actions_stay_inside_the_episode() -> None:
    data = make_dataset()
    following = data.next_actions()
    assert following.shape == (9, 1)
    for s in data.episode_slices:
        np.testing.assert_array_equal(following[s.start : s.stop - 1], data.actions[s.start + 1 : s.stop])
        np.testing.assert_array_equal(following[s.stop - 1], data.actions[s.stop - 1])


def test_top_fraction_keeps_whole_best_episodes() -> None:
    best = make_dataset().top_fraction(0.34)
    assert best.episode_returns.tolist() == [9.0, 30.0]
    assert make_dataset().top_fraction(0.01).episode_returns.tolist() == [30.0]
    assert len(make_dataset().top_fraction(1.0)) == 9


def test_from_arrays_takes_every_dialect() -> None:
    data = make_dataset()
    columns = {
        "observations": data.observations,
        "actions": data.actions,
        "rewards": data.rewards.astype(np.float64),
        "next_observations": data.next_observations,
    }
    dialects = (("terminated", "truncated"), ("terminals", "timeouts"), ("terminations", "truncations"))
    for terminated, truncated in dialects:
        read = Dataset.from_arrays({**columns, terminated: data.terminated, truncated: data.truncated})
        assert read.fingerprint() == data.fingerprint()
        assert read.rewards.dtype == np.float32
    unended = Dataset.from_arrays({**columns, "terminals": np.zeros(9, bool)})
    assert np.flatnonzero(unended.truncated).tolist() == [8]


def test_mistakes_are_named() -> None:
    data = make_dataset()
    with pytest.raises(UserError, match=r"lacks \['actions'\]"):
        Dataset.from_arrays({k: v for k, v in vars(data).items() if isinstance(v, np.ndarray) and k != "actions"})
    arrays = {k: v for k, v in vars(data).items() if isinstance(v, np.ndarray)}
    with pytest.raises(UserError, match=r"actions has shape \(8, 1\), rewards has 9 values"):
        Dataset.from_arrays({**arrays, "actions": data.actions[:-1]})
    with pytest.raises(UserError, match="empty"):
        Dataset.from_arrays({k: v[:0] for k, v in arrays.items()})


def test_fingerprint_sees_every_change() -> None:
    one, other = make_dataset(), make_dataset()
    assert one.fingerprint() == other.fingerprint()
    other.rewards[3] += 1e-6
    assert one.fingerprint() != other.fingerprint()


def test_arrays_without_successors_are_read_as_a_file_without_them(tmp_path: Path) -> None:
    arrays = {
        "observations": np.arange(8.0)[:, None],
        "actions": np.zeros((8, 1)),
        "rewards": np.arange(8)[:, None],
        "terminals": [0, 0, 1, 0, 0, 0, 0, 0],
        "timeouts": [0, 0, 0, 0, 0, 1, 0, 0],
        "infos": np.zeros(3),
    }
    data = Dataset.from_arrays(arrays, name="mine", env_id="Hopper-v5")
    assert data.observations.flatten().tolist() == [0, 1, 2, 3, 4, 6]
    assert data.next_observations.flatten().tolist()[:2] == [1, 2]
    assert data.terminated.tolist() == [False, False, True, False, False, False]
    assert data.truncated.tolist() == [False, False, False, False, True, True]
    assert "2 rows without a stored successor dropped" in data.notes[0]
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.update({key: np.asarray(value) for key, value in arrays.items() if key != "infos"})
    assert load_d4rl(tmp_path / "a.hdf5").fingerprint() == data.fingerprint()
    assert repr(data) == "<Dataset 'mine' of Hopper-v5: 6 transitions in 3 episodes, 1 observations, 1 actions>"
    assert data.save(str(tmp_path / "b.hdf5")) == tmp_path / "b.hdf5"
    again = load_d4rl(tmp_path / "b.hdf5")
    assert (again.fingerprint(), again.env_id, again.name) == (data.fingerprint(), "Hopper-v5", "mine")


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("terminals", [0, 7, 0, 0], "terminated: 1 values are neither 0 nor 1, the first is 7 in row 1"),
        ("terminals", [0, np.nan, 0, 0], "terminated: 1 values are neither 0 nor 1, the first is nan in row 1"),
        ("timeouts", [0, 0, np.inf, -1], "truncated: 2 values are neither 0 nor 1, the first is inf in row 2"),
    ],
)
def test_flags_that_are_none_are_found_and_not_trained_on(key: str, values: list[float], message: str) -> None:
    arrays = {
        "observations": np.zeros((4, 1)),
        "actions": np.zeros((4, 1)),
        "rewards": np.arange(4),
        "terminals": [0] * 4,
    }
    data = Dataset.from_arrays({**arrays, "next_observations": np.zeros((4, 1)), key: values})
    assert any(problem.startswith(message) for problem in problems(data))
    with pytest.raises(UserError, match=message):
        check_finite(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": None}, r"lacks \['rewards'\]"),
        ({"rewards": [[1, 2], [3]]}, "rewards is no array"),
        ({"actions": ["a", "b"]}, "actions holds <U1, expected numbers"),
        ({"terminals": [0]}, r"terminated has shape \(1,\), rewards has 2 values"),
        ({key: [] for key in ("observations", "actions", "rewards", "terminals")}, "is empty"),
    ],
)
def test_arrays_that_are_none_are_named(change: dict[str, Any], message: str) -> None:
    arrays = {"observations": np.zeros((2, 1)), "actions": np.zeros((2, 1)), "rewards": [0, 1], "terminals": [0, 0]}
    with pytest.raises(UserError, match=message):
        Dataset.from_arrays({key: value for key, value in {**arrays, **change}.items() if value is not None})


def test_rows_of_the_best_episodes_are_trusted() -> None:
    data = make_dataset((3, 2, 4))  # rewards count rows: returns 3, 7, 26
    assert data.trusted(0.3).tolist() == [0] * 5 + [1] * 4
    assert data.trusted(0.5).tolist() == [0] * 3 + [1] * 6
    assert data.trusted(1.0).tolist() == [1] * 9


def test_equal_episodes_are_trusted_alike() -> None:
    data = make_dataset((1,) * 10, (False,) * 10)
    for paid, expected in (([7, 8, 9], [0] * 7 + [1] * 3), (range(1, 10), [0] + [1] * 9), ([], [1] * 10)):
        data.rewards[:] = [1.0 if i in paid else 0.0 for i in range(10)]
        data.__dict__.pop("episode_returns", None)
        assert data.trusted(0.5).tolist() == expected
