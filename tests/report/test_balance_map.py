"""The map of a maze shows what it was given, each place where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from balrl.report.balance_map import draw_balance_map

WALLS = np.array([[True] * 5, [True, False, False, False, True], [True] * 5])
BALANCE = np.arange(3 * 4 * 5 * 4, dtype=float).reshape(12, 20) / 40 + 1
COVERAGE = np.zeros((12, 20))
COVERAGE[5, 6] = 999


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Figure, np.ndarray]:
    """The figure, and its picture ``[height, width, 4]`` in [0, 1]."""
    figures, save = [], Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_balance_map(tmp_path / "map.png", WALLS, (3.5, 1.5), BALANCE, COVERAGE, (1.0, 8.0))
    return figures[0], matplotlib.image.imread(tmp_path / "map.png")


def colour(drawn: tuple[Figure, np.ndarray], axis: int, place: tuple[float, float]) -> np.ndarray:
    """Return the picture's colour at a place of the maze, in cells from its upper left corner."""
    figure, picture = drawn
    x, y = figure.axes[axis].transData.transform(place)
    return picture[len(picture) - 1 - int(y), int(x), :3]


def test_the_picture_has_two_maps_of_the_whole_maze_with_their_scales(drawn: tuple[Figure, np.ndarray]) -> None:
    figure, picture = drawn
    assert picture.shape == (576, 1200, 4)
    left, right, *scales = figure.axes
    for axis in (left, right):
        assert (axis.get_xlim(), axis.get_ylim()) == ((0.0, 5.0), (3.0, 0.0))
        assert [tuple(np.ravel(line.get_data())) for line in axis.lines] == [(3.5, 1.5)]
    assert [scale.get_ylabel() for scale in scales] == ["balance: constraint ← → improvement", "log₁₀(1 + transitions)"]
    assert scales[0].get_ylim() == (1.0, 8.0)
    assert scales[1].get_ylim() == (0.0, 3.0)


def test_free_places_have_the_colour_of_their_balance_and_walls_are_grey(drawn: tuple[Figure, np.ndarray]) -> None:
    for row, column in ((4, 4), (7, 4), (5, 9), (6, 11)):
        expected = matplotlib.colormaps["viridis"]((BALANCE[row, column] - 1) / 7)[:3]
        found = colour(drawn, 0, ((column + 0.5) / 4, (row + 0.5) / 4))
        np.testing.assert_allclose(found, expected, atol=0.01)
    for place in ((0.5, 1.5), (2.5, 0.5), (2.5, 2.5), (4.5, 0.2)):
        np.testing.assert_allclose(colour(drawn, 0, place), to_rgb("#d9dde1"), atol=0.01)


def test_coverage_is_shown_by_its_logarithm_where_the_data_was(drawn: tuple[Figure, np.ndarray]) -> None:
    shown: Any = drawn[0].axes[1].images[0].get_array()
    assert shown[5, 6] == 3
    assert shown.sum() == 3
    assert shown.mask.sum() == 12 * 20 - 3 * 16
    magma = matplotlib.colormaps["magma"]
    np.testing.assert_allclose(colour(drawn, 1, (6.5 / 4, 5.5 / 4)), magma(1.0)[:3], atol=0.01)
    np.testing.assert_allclose(colour(drawn, 1, (7.5 / 4, 5.5 / 4)), magma(0.0)[:3], atol=0.01)
