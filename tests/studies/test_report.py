from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balrl.studies.report import drop, final_gold, fitted, table, write_report


def result(
    optimizer: str, objective: str, gold: list[float], seed: int = 0, coefficient: float = 0.0
) -> dict[str, Any]:
    kl = [float(i) for i in range(len(gold))]
    return {
        "optimizer": optimizer,
        "objective": objective,
        "seed": seed,
        "flip": 0.25,
        "kl_coefficient": coefficient,
        "curve": {"kl": kl, "gold": gold, "proxy": kl},
        "seconds": 1.0,
    }


def test_final_gold_and_fall() -> None:
    best = result("best-of-n", "single", [0.0, 2.0, 1.5])
    assert (final_gold(best), drop(best)) == (1.5, 0.5)
    climbing = result("best-of-n", "single", [0.0, 1.0, 2.0])
    assert drop(climbing) == 0
    trained = result("ppo", "single", [0.0] * 10 + [4.0] * 10 + [1.0, 3.0])
    assert final_gold(trained) == 2.0
    assert drop(trained) == 2.0


def test_differences_from_the_single_model_are_paired_by_seed() -> None:
    rows = [result("best-of-n", "single", [0.0, float(s)], s) for s in range(3)]
    rows += [result("best-of-n", "WCO", [0.0, s + 1.0], s) for s in range(3)]
    lines = table(rows)
    assert "| WCO | 3 | 2.00 [1.00, 3.00] | 1.00 [1.00, 1.00] | 0.00" in lines[-1]


def test_fits_are_of_the_gain_over_the_initial_policy() -> None:
    kl = [0.0, 1.0, 4.0, 9.0]
    curve = {"kl": kl, "gold": [5 + d * (2 - 0.5 * d) for d in (0, 1, 2, 3)], "proxy": kl}
    assert fitted({**result("best-of-n", "single", []), "curve": curve}) == pytest.approx((2, 0.5))


def test_a_report_has_its_pictures(tmp_path: Path) -> None:
    rows = [
        result(o, name, [0.0, 1.0, 0.5], seed, c)
        for o, coefficients in (("best-of-n", [0.0]), ("ppo", [0.0, 0.1]))
        for c in coefficients
        for name in ("single", "WCO")
        for seed in (0, 1)
    ]
    page = write_report(rows, tmp_path)
    assert page.read_text().count("| ppo |") == 4
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "penalties.png").stat().st_size > 5_000
