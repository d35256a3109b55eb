"""Fronts and what sums them up."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from balrl.errors import UserError
from balrl.front import Front, hypervolume, nondominated, simplex_grid, sparsity

STAIRS = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])


@given(st.integers(1, 5), st.integers(2, 40))
def test_a_grid_is_even_on_the_simplex_and_has_its_corners(dim: int, least: int) -> None:
    grid = simplex_grid(dim, least)
    assert len(grid) >= least or dim == 1
    assert (grid >= 0).all()
    np.testing.assert_allclose(grid.sum(1), 1)
    assert len(np.unique(grid.round(9), axis=0)) == len(grid)
    for corner in np.eye(dim):
        assert (np.abs(grid - corner).max(1) < 1e-12).any()


def test_a_known_front() -> None:
    """Three stairs above (0, 0): 3 + 2 + 1 squares; sorted one by one, each step is 1."""
    assert hypervolume(STAIRS, (0, 0)) == pytest.approx(6)
    assert hypervolume(STAIRS, (1, 1)) == pytest.approx(1)
    assert hypervolume(STAIRS, (5, 5)) == 0
    assert hypervolume(np.array([[2.0, 3.0, 4.0]]), (0, 0, 0)) == pytest.approx(24)
    assert sparsity(STAIRS) == pytest.approx((1 + 1 + 1 + 1) / 2)
    assert sparsity(STAIRS[:1]) == 0


def test_dominated_points_are_told_from_efficient_ones_and_equals_count_once() -> None:
    points = np.array([*STAIRS, [1.0, 1.0], [2.0, 2.0], [3.0, 0.5]])
    assert nondominated(points).tolist() == [True, True, True, False, False, False]


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12))
def test_dominated_points_add_no_volume(points: list[tuple[int, int, int]]) -> None:
    found = np.array(points, float)
    kept = found[nondominated(found)]
    assert hypervolume(kept, (-1, -1, -1)) == pytest.approx(hypervolume(found, (-1, -1, -1)))
    for point in found:
        assert any((best >= point).all() for best in kept)


def test_episodes_become_means_per_preference() -> None:
    half, one = (0.5, 0.5), (1.0, 0.0)
    front = Front.of_episodes([half, half, one], [(1.0, 3.0), (3.0, 5.0), (4.0, 0.0)])
    np.testing.assert_allclose(front.points, [[2, 4], [4, 0]])
    assert front.utilities.tolist() == [3.0, 4.0]
    assert front.expected_utility == 3.5
    assert front.best_utility == 3.5
    data = front.to_json((0.0, 0.0))
    assert data["hypervolume"] == pytest.approx(8)
    assert data["front"][0] == {"preference": [0.5, 0.5], "return": [2.0, 4.0], "efficient": True}
    assert "hypervolume" not in front.to_json()


def test_a_policy_that_ignores_its_preference_loses_expected_and_not_best_utility() -> None:
    front = Front(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 9.0], [9.0, 0.0]]))
    assert (front.expected_utility, front.best_utility) == (0.0, 9.0)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="reference has 3 numbers, expected 2"):
        hypervolume(STAIRS, (0, 0, 0))
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(UserError, match=r"balrl\[multi-objective\]"):
        hypervolume(STAIRS, (0, 0))
