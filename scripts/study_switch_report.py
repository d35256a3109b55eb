"""What scripts/study_switch.py keeps of its runs, and the tables and pictures made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from balrl.evaluation import bootstrap_interval
from balrl.report.switch import switch_report
from balrl.tracking import read_metrics

START, END = "<!-- measured -->", "<!-- /measured -->"
Result = dict[str, Any]


def read_results(path: Path) -> dict[str, Result]:
    """Return the kept results of a part by the name of their job."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["job"]: result for result in map(json.loads, lines)}


def result_of(run_dir: Path, method: str, group: str) -> Result | None:
    """Return what a finished run came to, small enough to keep; None if it is not finished."""
    summary_file = run_dir / "summary.json"
    if not summary_file.exists():
        return None
    summary = json.loads(summary_file.read_text())
    if not summary["finished"]:
        return None
    evaluations = json.loads((run_dir / "evaluations.json").read_text())
    measured = [r for r in read_metrics(run_dir / "metrics.jsonl") if "switch/saturation" in r]
    names = [key for key in dict.fromkeys(k for r in measured for k in r) if key.startswith("switch/")]
    return {
        "method": method,
        "group": group,
        "seed": summary["seed"],
        "commit": summary["git_commit"],
        "seconds": round(sum(summary["wall_seconds"].values()), 1),
        "pretrain_updates": summary["updates"] if group == "pretrain" else 0,
        "findings": [f"{f['pattern']} at {f['step']}" for f in summary["findings"]],
        "switch": switch_report(evaluations),
        "env_steps": [e["env_steps"] for e in evaluations],
        "updates": [e["updates"] for e in evaluations],
        "score": [round(e["score"], 2) for e in evaluations],
        "measured_steps": [r["step"] for r in measured],
        "measured": {key: [_short(r.get(key)) for r in measured] for key in names},
        "versions": summary["versions"],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def report(protocol: dict[str, Any], results: Path) -> None:
    """Write the tables between the marks of ``switch.md`` and the pictures beside it, from the kept results."""
    page = results.with_suffix(".md")
    lines: list[str] = []
    for part in protocol:
        kept = list(read_results(results / f"{part}.jsonl").values())
        if kept:
            lines += [f"### {part}", "", *_state(kept), *_matrix(protocol[part], kept), ""]
    if page.exists():
        before, rest = page.read_text().split(START)
        page.write_text(before + START + "\n\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1])
        print(f"wrote {page}")


def _state(kept: list[Result]) -> list[str]:
    commits = ", ".join(sorted({str(r["commit"]) for r in kept}))
    hours = sum(r["seconds"] for r in kept) / 3600
    return [f"{len(kept)} runs; {hours:.1f} core-hours; commits {commits}.", ""]


def _matrix(protocol: dict[str, Any], kept: list[Result]) -> list[str]:
    lines = [
        "| method | seeds | at the switch | drop | lowest | mean online | last |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(r["method"] for r in kept if r["group"] == "online"):
        runs = [r for r in kept if r["method"] == method and r["group"] == "online"]
        columns = [
            [r["switch"]["score_before"] for r in runs],
            [r["switch"]["drop"] for r in runs],
            [r["switch"]["lowest"] for r in runs],
            [100 - r["switch"]["regret"] for r in runs],
            [r["score"][-1] for r in runs],
        ]
        lines.append(f"| {method} | {len(runs)} | " + " | ".join(_interval(c) for c in columns) + " |")
    return lines


def _interval(values: list[float]) -> str:
    low, high = bootstrap_interval([values], lambda x: float(np.mean(x)))
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}]"
