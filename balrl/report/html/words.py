"""What happened in a run, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from balrl.report.runs import Run
from balrl.report.switch import switch_report

PLAIN = {
    "NaN": "a number was no longer one",
    "Q explosion": "the critics' values grew without bound",
    "Q collapse": "the critics' values fell away after the switch",
    "entropy collapse": "the policy lost its randomness",
    "saturated actions": "the policy's actions stuck at their bounds",
}
"""The watchdog's patterns."""


class Sentence(NamedTuple):
    """Something to know.

    Attributes:
        kind: good, bad or plain.
        text: the sentence.
    """

    kind: str
    text: str


def findings(run: Run, summary: Mapping[str, Any], advice: Mapping[str, str]) -> list[Sentence]:
    """Return what is worth knowing of a run, the worst first.

    Args:
        run: what it was.
        summary: its ``summary.json``.
        advice: against each pattern of the watchdog that it saw.
    """
    found = [*_outcome(run, summary), *_watchdog(summary, advice), *_switch(run), *_progress(run), *_champion(summary)]
    return sorted(found, key=lambda sentence: ("bad", "plain", "good").index(sentence.kind))


def _outcome(run: Run, summary: Mapping[str, Any]) -> list[Sentence]:
    if summary.get("outcome") == "diverged":
        return [Sentence("bad", "The run diverged and was stopped.")]
    if not run.finished:
        return [Sentence("bad", "The run is not finished: what is shown is where it stands.")]
    return []


def _watchdog(summary: Mapping[str, Any], advice: Mapping[str, str]) -> list[Sentence]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    seen = summary.get("findings")
    for finding in seen if isinstance(seen, list) else []:
        if isinstance(finding, Mapping):
            found.setdefault(str(finding.get("pattern")), []).append(finding)
    said = []
    for pattern, all_of_it in found.items():
        first, times = all_of_it[0], f", {len(all_of_it)} times" if len(all_of_it) > 1 else ""
        words = PLAIN.get(pattern, pattern)
        value, limit, where = first.get("value"), first.get("limit"), first.get("tensor")
        measured = f": {where} was {value:.4g}, expected within {limit:.4g}" if _numbers(value, limit) else ""
        step = first.get("step")
        at = f"at step {step:,}" if isinstance(step, int) else "at some step"
        tried = f" Try: {advice[pattern]}." if pattern in advice else ""
        said.append(Sentence("bad", f"The watchdog saw that {words}, first {at}{times}{measured}.{tried}"))
    rollbacks = summary.get("rollbacks")
    if isinstance(rollbacks, int) and rollbacks:
        said.append(Sentence("bad", f"The run was rolled back {rollbacks} time{'s' * (rollbacks > 1)}."))
    return said


def _switch(run: Run) -> list[Sentence]:
    report = switch_report(run.evaluations)
    if report is None or report["drop"] is None:
        return []
    before, lowest, at = report["score_before"], report["lowest"], report["lowest_at"]
    if report["drop"] <= 0:
        return [Sentence("good", f"Going online cost nothing: the score never fell below the {before:.1f} before it.")]
    back = report["steps_to_recovery"]
    told = f"it was back after {back:,}" if back is not None else "it has not come back"
    kind = "plain" if back is not None else "bad"
    return [
        Sentence(
            kind,
            f"At the switch the score fell from {before:.1f} to {lowest:.1f} after {at:,} environment steps; {told}.",
        )
    ]


def _progress(run: Run) -> list[Sentence]:
    scores = [(e["score"], e) for e in run.evaluations if _numbers(e["score"])]
    if len(scores) < 2:
        return []
    (first, _), (last, _) = scores[0], scores[-1]
    best, where = max(scores, key=lambda pair: pair[0])
    said = [Sentence("good" if last > first else "bad", f"The score went from {first:.1f} to {last:.1f}.")]
    if best > last + 0.1 * abs(best - first):
        said.append(
            Sentence("plain", f"The best evaluation, {best:.1f}, was at step {where['step']:,}, not at the end.")
        )
    return said


def _champion(summary: Mapping[str, Any]) -> list[Sentence]:
    champion = summary.get("champion")
    if not isinstance(champion, Mapping):
        return []
    return [Sentence("plain", "What is served is a champion: the best frozen policy by the episodes of the run.")]


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
