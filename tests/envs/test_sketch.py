"""Line drawings put what is asked for where it is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from balrl.envs.sketch import Sketch

PIXEL = 2 / 256


def ink(sketch: Sketch) -> NDArray[np.float64]:
    """Return how black each pixel is, in [0, 1]."""
    picture = sketch.array()
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8
    return 1 - picture.mean(-1) / 255


def bounds(black: NDArray[np.float64]) -> list[float]:
    """Return left, right, bottom and top of what is more than half black, in the sheet's own units."""
    rows, columns = np.nonzero(black > 0.5)
    return [columns.min() * PIXEL - 1, columns.max() * PIXEL + PIXEL - 1,
            1 - rows.max() * PIXEL - PIXEL, 1 - rows.min() * PIXEL]  # fmt: skip


def test_a_box_is_where_its_middle_is_and_as_wide_and_high_as_told() -> None:
    assert ink(Sketch()).max() == 0
    black = ink(Sketch().box((0.5, 0.25), 0.5, 0.25, "black"))
    assert bounds(black) == pytest.approx([0.25, 0.75, 0.125, 0.375], abs=PIXEL)
    assert black.sum() * PIXEL**2 == pytest.approx(0.5 * 0.25, rel=0.02)


def test_a_disk_has_its_area_around_its_middle() -> None:
    black = ink(Sketch().disk((-0.5, 0.4), 0.3, "black"))
    assert black.sum() * PIXEL**2 == pytest.approx(math.pi * 0.3**2, rel=0.01)
    assert bounds(black) == pytest.approx([-0.8, -0.2, 0.1, 0.7], abs=1.5 * PIXEL)
    assert ((black > 0.05) & (black < 0.95)).any()  # a smooth edge


def test_a_line_has_its_width_and_round_ends_and_bends() -> None:
    """Two legs of a right angle and three round pieces: half a disk at each end, a quarter outside the bend."""
    black = ink(Sketch().line([(-0.6, -0.5), (0.6, -0.5), (0.6, 0.7)], "black", 0.2))
    assert bounds(black) == pytest.approx([-0.7, 0.7, -0.6, 0.8], abs=1.5 * PIXEL)
    outside, corner = ((int((1 + 0.5 + off) / PIXEL), int((1 + 0.6 + off) / PIXEL)) for off in (0.06, 0.095))
    assert black[outside] == 1
    assert black[corner] == 0
    area = 2 * 1.2 * 0.2 - 0.1**2 + 1.25 * math.pi * 0.1**2
    assert black.sum() * PIXEL**2 == pytest.approx(area, rel=0.02)


def test_what_is_drawn_later_covers_what_was_there() -> None:
    picture = Sketch().box((0, 0), 2, 2, "red").disk((0.5, -0.5), 0.2, "blue").line([(0, 0), (0.5, 0)], "lime", 0.1)
    shown = picture.array()
    assert shown[20, 20].tolist() == [255, 0, 0]
    assert shown[192, 192].tolist() == [0, 0, 255]
    assert shown[128, 160].tolist() == [0, 255, 0]
