from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from balrl.report.family_plot import draw_family

ARMS = [
    {
        "label": "own choice",
        "episodes": 4,
        "mean": 1.0,
        "low": 0.5,
        "high": 1.5,
        "mean_q": 3.0,
        "conservative_q": 2.0,
        "kept": 1.0,
        "pooled": {"mean": 1.1, "low": 0.7, "high": 1.6},
    },
    {
        "label": "1",
        "episodes": 1,
        "mean": 2.0,
        "low": None,
        "high": None,
        "mean_q": 2.9,
        "conservative_q": 2.5,
        "kept": 0.0,
        "pooled": {"mean": 1.8, "low": 1.0, "high": 2.6},
    },
    {"label": "own × $2$", "episodes": 0, "mean": None, "low": None, "high": None},
]


@pytest.mark.parametrize(("arms", "chosen"), [(ARMS, 1), (ARMS[:2], None), ([ARMS[2]], 0)])
def test_any_family_is_drawn(arms: list[dict[str, object]], chosen: int | None, tmp_path: Path) -> None:
    draw_family(arms, tmp_path / "family.png", "famo2o-iql on balrl/PointMaze-v0, seed 0", "return", chosen)
    picture = matplotlib.image.imread(tmp_path / "family.png")
    assert picture.std() > 0.01
