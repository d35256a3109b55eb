from __future__ import annotations

from typing import Any

import pytest

from balrl.report.switch import switch_report


def record(env_steps: int, score: float, normalized: bool = True) -> dict[str, Any]:
    phase = "finetune" if env_steps else "pretrain"
    return {"env_steps": env_steps, "phase": phase, "score": score, "normalized_score": score if normalized else None}


def test_drop_recovery_and_regret() -> None:
    found = switch_report([record(0, 10), record(0, 60), record(100, 20), record(300, 30), record(400, 70)])
    assert found is not None
    assert (found["score_before"], found["drop"], found["lowest"], found["lowest_at"]) == (60, 40, 20, 100)
    assert (found["window"], found["steps_to_recovery"]) == (400, 400)
    area = 100 * (40 + 80) / 2 + 200 * (80 + 70) / 2 + 100 * (70 + 30) / 2
    assert found["regret"] == pytest.approx(area / 400)


def test_no_drop_no_recovery_and_no_reference() -> None:
    found = switch_report([record(0, 10, False), record(100, 20, False)])
    assert found is not None
    assert (found["drop"], found["steps_to_recovery"], found["regret"]) == (-10, 0, None)
    found = switch_report([record(0, 50), record(100, 20), record(200, 40)])
    assert found is not None
    assert found["steps_to_recovery"] is None


def test_the_window_ends_after_fifty_thousand_steps() -> None:
    found = switch_report([record(0, 50), record(40_000, 45), record(60_000, 1)])
    assert found is not None
    assert (found["drop"], found["window"]) == (5, 50_000)


@pytest.mark.parametrize("broken", [None, float("nan")])
def test_a_score_that_is_not_finite_is_no_recovery(broken: float | None) -> None:
    found = switch_report([record(0, 50), record(100, broken), record(200, 10)])  # type: ignore[arg-type]
    assert found is not None
    assert (found["score_before"], found["drop"], found["steps_to_recovery"], found["regret"]) == (50, None, None, None)


def test_nothing_is_said_about_a_window_without_evaluations() -> None:
    found = switch_report([record(0, 50), record(100_000, 1)])
    assert found is not None
    assert (found["window"], found["drop"]) == (50_000, None)


def test_a_run_without_a_switch_has_none() -> None:
    assert switch_report([record(0, 1), record(0, 2)]) is None
    assert switch_report([record(10, 1)]) is None


def test_what_a_warm_up_chose_is_the_score_before() -> None:
    chosen = {**record(100, 80), "phase": "warmup"}
    found = switch_report([record(0, 50), chosen, record(200, 70), record(300, 90)])
    assert found is not None
    assert (found["score_before"], found["drop"], found["steps_to_recovery"]) == (80, 10, 300)
