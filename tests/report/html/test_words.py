"""Findings in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balrl.report.html.words import PLAIN, findings
from balrl.report.runs import Run
from balrl.watch.advice import PATTERNS


def evaluation(phase: str, env_steps: int, score: float) -> dict[str, Any]:
    return {"phase": phase, "env_steps": env_steps, "step": env_steps, "score": score, "normalized_score": None}


def said(scores: list[float], summary: dict[str, Any] | None = None, finished: bool = True) -> list[tuple[str, str]]:
    evaluations = [
        evaluation("finetune" if i > 1 else "pretrain", max(0, 100 * (i - 1)), s) for i, s in enumerate(scores)
    ]
    evaluations = [{**e, "step": 1000 + 10 * i} for i, e in enumerate(evaluations)]
    run = Run(Path("x"), {}, evaluations, [], finished)
    return [tuple(s) for s in findings(run, summary or {}, {"Q explosion": "raise agent.critics"})]


def test_a_switch_that_cost_nothing() -> None:
    assert said([10.0, 20.0, 25.0, 30.0]) == [
        ("good", "Going online cost nothing: the score never fell below the 20.0 before it."),
        ("good", "The score went from 10.0 to 30.0."),
    ]


def test_a_dip_and_whether_it_came_back() -> None:
    kind, text = said([10.0, 20.0, 5.0, 30.0])[0]
    assert (kind, text) == (
        "plain",
        "At the switch the score fell from 20.0 to 5.0 after 100 environment steps; it was back after 200.",
    )
    worst = said([10.0, 20.0, 5.0, 8.0])
    assert worst[0][0] == "bad"
    assert worst[0][1].endswith("it has not come back.")
    assert ("bad", "The score went from 10.0 to 8.0.") in worst
    assert ("plain", "The best evaluation, 20.0, was at step 1,010, not at the end.") in worst


def test_what_the_watchdog_saw_comes_first() -> None:
    seen = {"pattern": "Q explosion", "step": 1200, "tensor": "critic/q", "value": 1e6, "limit": 100.0}
    summary = {
        "outcome": "diverged",
        "findings": [seen, seen, {"pattern": "NaN"}],
        "rollbacks": 2,
        "champion": {"born": 1},
    }
    found = said([1.0, 2.0, 3.0], summary)
    assert [kind for kind, _ in found] == ["bad"] * 4 + ["plain"] + ["good"] * 2
    assert found[0][1] == "The run diverged and was stopped."
    assert found[1][1] == (
        "The watchdog saw that the critics' values grew without bound, first at step 1,200, 2 times: critic/q was "
        "1e+06, expected within 100. Try: raise agent.critics."
    )
    assert found[2][1] == "The watchdog saw that a number was no longer one, first at some step."
    assert found[3][1] == "The run was rolled back 2 times."


def test_little_to_say() -> None:
    assert said([1.0], finished=False) == [("bad", "The run is not finished: what is shown is where it stands.")]


def test_every_pattern_has_its_words() -> None:
    assert set(PLAIN) == set(PATTERNS)
