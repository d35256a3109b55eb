from __future__ import annotations

import numpy as np
import pytest

from balrl.studies.fits import fit_best_of_n, fit_policy


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.4), (-1.0, -2.0), (0.3, 0.0)])
def test_fits_recover_the_curves_they_are_of(alpha: float, beta: float) -> None:
    d = np.linspace(0, 4, 30)
    found = fit_best_of_n(d, d * (alpha - beta * d))
    assert found == pytest.approx((alpha, beta, 0), abs=1e-9)
    logs = np.log(np.where(d > 0, d, 1))
    assert fit_policy(d, d * (alpha - beta * logs)) == pytest.approx((alpha, beta, 0), abs=1e-9)


def test_the_error_is_the_root_mean_square_of_what_is_left() -> None:
    d = np.array([1.0, 1.0, 2.0, 2.0])
    assert fit_best_of_n(d, [1, 2, 3, 4]).error == pytest.approx(0.5)
