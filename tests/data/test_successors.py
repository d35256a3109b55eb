from __future__ import annotations

import numpy as np

from balrl.data.successors import with_successors


def columns(**more: np.ndarray) -> dict[str, np.ndarray]:
    observations = np.arange(6.0)[:, None]
    return {
        "observations": observations,
        "rewards": np.arange(6.0),
        "terminated": np.array([0, 0, 1, 0, 0, 0], bool),
        "truncated": np.array([0, 0, 0, 0, 0, 1], bool),
        **more,
    }


def test_the_row_behind_follows_within_an_episode() -> None:
    found, left_out = with_successors(columns())
    assert left_out == 1
    assert found["next_observations"][:, 0].tolist() == [1, 2, 2, 4, 5]
    assert found["rewards"].tolist() == [0, 1, 2, 3, 4]
    assert found["truncated"].tolist() == [False] * 4 + [True]
    assert np.flatnonzero(found["terminated"]).tolist() == [2]


def test_what_was_recorded_is_kept_but_where_it_repeats_itself_at_a_cut() -> None:
    whole, left_out = with_successors(columns(next_observations=np.arange(1.0, 7)[:, None]))
    assert left_out == 0
    assert whole["truncated"].tolist() == [False] * 5 + [True]
    found, left_out = with_successors(columns(next_observations=np.array([[1.0], [2], [9], [4], [5], [5]])))
    assert left_out == 1
    assert found["next_observations"][:, 0].tolist() == [1, 2, 2, 4, 5]


def test_an_episode_of_one_cut_row_leaves_nothing() -> None:
    data = columns(truncated=np.array([0, 0, 0, 1, 0, 1], bool))
    found, left_out = with_successors(data)
    assert left_out == 2
    assert found["rewards"].tolist() == [0, 1, 2, 4]
    assert found["truncated"].tolist() == [False, False, False, True]
