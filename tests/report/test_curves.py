from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np

from balrl.report.balance_map import draw_balance_map
from balrl.report.curves import draw_curves

RECORDS = [
    {"step": 0, "phase": "pretrain", "eval/score": 1.0, "eval/success_rate": 0.1},
    {"step": 10, "phase": "pretrain", "critic/loss": 2.0, "critic/q": -3.0, "value/mean": -2.5},
    {"step": 20, "phase": "warmup", "rollout/return": 3.0},
    {"step": 40, "phase": "finetune", "eval/score": 50.0, "eval/success_rate": 0.9, "critic/loss": None},
]


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)


def test_curves_show_the_records(tmp_path: Path) -> None:
    draw_curves(RECORDS, tmp_path / "a.png", "title", "score")
    image = pixels(tmp_path / "a.png")
    assert image.shape[:2] == (960, 1080)
    changed = [{**r, "eval/score": 99.0} if "eval/score" in r else r for r in RECORDS]
    draw_curves(changed, tmp_path / "b.png", "title", "score")
    assert not np.array_equal(image, pixels(tmp_path / "b.png"))


def test_curves_survive_a_run_that_logged_almost_nothing(tmp_path: Path) -> None:
    draw_curves(RECORDS[:1], tmp_path / "a.png", "title", "score")
    draw_curves(RECORDS[2:3], tmp_path / "b.png", "title", "score")
    assert pixels(tmp_path / "b.png").size


def test_balance_map_shows_the_balance(tmp_path: Path) -> None:
    walls = np.array([[True, True, True], [True, False, True], [True, True, True]])
    for name, value in (("low", 1.0), ("high", 5.0)):
        draw_balance_map(
            tmp_path / f"{name}.png", walls, (1.5, 1.5), np.full((12, 12), value), np.zeros((12, 12)), (1.0, 5.0)
        )
    assert not np.array_equal(pixels(tmp_path / "low.png"), pixels(tmp_path / "high.png"))
