from __future__ import annotations

import numpy as np
import pytest

from balrl.evaluation import bootstrap_interval, iqm
from balrl.report.bands import iqm_band, performance_profile


def test_a_band_is_the_interval_at_every_point() -> None:
    rng = np.random.default_rng(0)
    tasks = [rng.normal(size=(6, 3)), rng.normal(3, 1, size=(5, 3))]
    band = iqm_band(tasks)
    for point in range(3):
        scores = [task[:, point] for task in tasks]
        assert band.value[point] == pytest.approx(iqm(np.concatenate(scores)))
        low, high = bootstrap_interval(scores)
        assert (band.low[point], band.high[point]) == pytest.approx((low, high), abs=0.25)
        assert band.low[point] <= band.value[point] <= band.high[point]


def test_a_profile_is_the_share_of_runs_above_each_threshold() -> None:
    band = performance_profile([[1.0, 2.0, 3.0], [2.0]], np.array([0.0, 1.0, 2.5, 9.0]))
    assert band.value.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert band.low[0] == band.high[0] == 1.0
    assert band.low[1] < 0.75 < band.high[1]
