"""The picture of fronts."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from balrl.front import Front, simplex_grid
from balrl.report.front_plot import draw_fronts


@pytest.mark.parametrize(("dim", "aspect"), [(2, 1.3), (3, 3.4), (4, 1.8)])
def test_a_panel_for_every_pair_of_rewards(tmp_path: Path, dim: int, aspect: float) -> None:
    rng = np.random.default_rng(0)
    grid = simplex_grid(dim, 6)
    fronts = {"one": Front(grid, 10 * grid), "$two$": Front(grid, rng.normal(size=grid.shape))}
    draw_fronts(fronts, tmp_path / "f.png", (-1.0,) * dim)
    picture = matplotlib.image.imread(tmp_path / "f.png")
    assert picture.shape[1] / picture.shape[0] == pytest.approx(aspect, rel=0.15)
    assert picture[..., :3].std() > 0.02
