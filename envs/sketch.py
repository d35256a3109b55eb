"""Line drawings of a task's state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE, FINER = 256, 3
Point = tuple[float, float]


class Sketch:
    """A square white sheet that shows [-1, 1] × [-1, 1], y upwards; drawn finer than returned, for smooth edges."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (SIZE * FINER, SIZE * FINER), "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], color: str, width: float) -> Sketch:
        """Draw from point to point, `width` wide, with round ends."""
        self._draw.line([self._pixel(p) for p in points], color, round(self._length(width)), "curve")
        for point in (points[0], points[-1]):
            self.disk(point, width / 2, color)
        return self

    def disk(self, center: Point, radius: float, color: str) -> Sketch:
        self._draw.circle(self._pixel(center), self._length(radius), color)
        return self

    def box(self, center: Point, width: float, height: float, color: str) -> Sketch:
        (x, y), half = center, (width / 2, height / 2)
        corners = self._pixel((x - half[0], y + half[1])), self._pixel((x + half[0], y - half[1]))
        self._draw.rectangle(corners, color)
        return self

    def array(self) -> NDArray[np.uint8]:
        """Return ``[256, 256, 3]``."""
        return np.asarray(self._image.reduce(FINER))

    def _length(self, length: float) -> float:
        return length * SIZE * FINER / 2

    def _pixel(self, point: Point) -> Point:
        return self._length(1 + point[0]), self._length(1 - point[1])
