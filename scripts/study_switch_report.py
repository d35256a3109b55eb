"""What scripts/study_switch.py keeps of its runs, and the tables and pictures made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from study_jobs import cell, summary_of, write_between_marks

from balrl.report.curves import COLORS
from balrl.report.switch import switch_report
from balrl.watch.tracking import read_metrics

Result = dict[str, Any]


def read_results(path: Path) -> dict[str, Result]:
    """Return the kept results of a part by the name of their job."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["job"]: result for result in map(json.loads, lines)}


def result_of(run_dir: Path, method: str, group: str) -> Result:
    """Return what a finished run came to, small enough to keep."""
    summary = summary_of(run_dir)
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
    lines: list[str] = []
    for part in protocol:
        kept = list(read_results(results / f"{part}.jsonl").values())
        if all(r["group"] == "pretrain" for r in kept):
            continue
        lines += [
            f"## Measured: {part}",
            "",
            _state(kept),
            "",
            *_pretraining(kept),
            "",
            *_matrix(kept, list(protocol[part]["online"])),
        ]
        if any(r["group"] == "ablation" for r in kept):
            lines += ["", *_ablation(kept)]
        draw(kept, results / f"{part}.png")
        lines += ["", f"![Scores and Q across the switch, {part}](switch/{part}.png)", ""]
    write_between_marks(results.with_suffix(".md"), lines)


def _state(kept: list[Result]) -> str:
    commits = ", ".join(sorted({str(r["commit"]) for r in kept}))
    hours = sum(r["seconds"] for r in kept) / 3600
    versions = ", ".join(f"{k} {kept[0]['versions'][k]}" for k in ("python", "torch", "gymnasium", "numpy"))
    return f"{len(kept)} runs finished; {hours:.1f} core-hours; commits {commits}; {versions}."


def _pretraining(kept: list[Result]) -> list[str]:
    lines = ["| pre-trained with | last offline score | by seed |", "| --- | --- | --- |"]
    for method in dict.fromkeys(r["method"] for r in kept if r["group"] == "pretrain"):
        scores = [r["score"][-1] for r in kept if r["group"] == "pretrain" and r["method"] == method]
        lines.append(f"| {method} | {cell(scores)} | {', '.join(f'{s:.0f}' for s in scores)} |")
    return lines


def _matrix(kept: list[Result], methods: list[str]) -> list[str]:
    lines = [
        "| method | seeds | at the switch | lowest | drop | mean online | last | lowest Q − Q at the switch | fell |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in methods:
        runs = [r for r in kept if r["method"] == method and r["group"] == "online"]
        if not runs:
            continue
        columns = [[values[key] for values in map(_numbers, runs)] for key in NUMBERS]
        seen = sum(any("Q collapse" in f for f in r["findings"]) for r in runs)
        cells = " | ".join(cell(c) for c in columns)
        lines.append(f"| {method} | {len(runs)} | {cells} | {seen} of {len(runs)} |")
    return lines


PANELS = (
    ("IQL, data kept", "IQL, no data", "FamO2O-IQL"),
    ("CQL, data kept", "CQL, no data", "FamO2O-CQL"),
    ("Cal-QL, data kept", "Cal-QL, no data", "WSRL", "WSRL, no warm-up"),
    ("SAC from scratch", "RLPD", "FamO2O-CQL to WSRL"),
)
STRATEGIES = ("WSRL", "PEX", "JSRL", "WSRL, coasting", "WSRL, data kept")
NUMBERS = ("before", "lowest", "drop", "mean", "last", "q")


def _numbers(run: Result) -> dict[str, float]:
    q = [x for x in run["measured"].get("switch/offline_q", []) if x is not None]
    switch = run["switch"]
    return {
        "before": switch["score_before"],
        "lowest": switch["lowest"],
        "drop": switch["score_before"] - switch["lowest"],
        "mean": 100 - switch["regret"],
        "last": run["score"][-1],
        "q": min(q) - q[0],
    }


def _ablation(kept: list[Result]) -> list[str]:
    """The grid of initialisations and warm-ups; WSRL itself comes from the matrix."""
    cells: dict[tuple[str, str], list[Result]] = {}
    for run in kept:
        if run["group"] == "ablation":
            parts, warmup = run["method"].split(", ")
            cells.setdefault((parts, warmup), []).append(run)
        elif run["method"] == "WSRL":
            cells.setdefault(("policy-and-critic", "frozen policy"), []).append(run)
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    lines = []
    for number, title in (("mean", "mean online score"), ("last", "last score"), ("q", "Q, lowest − at the switch")):
        lines += [f"Initialisation × warm-up, no data kept: {title}", ""]
        lines += ["| initialised | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
        for row in rows:
            found = [[_numbers(r)[number] for r in cells.get((row, column), [])] for column in columns]
            lines.append(f"| {row} | " + " | ".join(cell(f) for f in found) + " |")
        lines.append("")
    return lines


def draw(kept: list[Result], path: Path) -> None:
    """Draw score and Q of the frozen logged batch over the online steps, mean and range over seeds, group by group."""
    methods = {r["method"] for r in kept if r["group"] == "online"}
    groups = [
        [name for name in group if name in methods]
        for group in (PANELS if "PEX" not in methods else (*PANELS, STRATEGIES))
    ]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(3.6 * len(groups), 6.2), layout="constrained", dpi=120)
    axes: Any = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, names in enumerate(groups):
        for index, name in enumerate(names):
            runs = [r for r in kept if r["group"] == "online" and r["method"] == name]
            scores = [list(zip(r["env_steps"], r["score"], strict=True)) for r in runs]
            q = [_q_over_steps(r) for r in runs]
            for axis, curves in ((axes[0, column], scores), (axes[1, column], q)):
                _mean_and_range(axis, curves, COLORS[index], f"{name} ({len(runs)})")
        axes[0, column].legend(frameon=False, fontsize=8, loc="best")
        axes[1, column].set_xlabel("environment steps after the switch", fontsize=9)
    axes[0, 0].set_ylabel("score")
    axes[1, 0].set_ylabel("mean Q of the frozen logged batch")
    for axis in axes.flat:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("mean and range over seeds (number of seeds)", x=0.01, ha="left", fontsize=10)
    figure.savefig(path)


def _q_over_steps(run: Result) -> list[tuple[int, float]]:
    values = run["measured"].get("switch/offline_q", [])
    return [(s, v) for s, v in zip(run["measured_steps"], values, strict=True) if v is not None]


def _mean_and_range(axis: Any, curves: list[list[tuple[int, float]]], color: str, label: str) -> None:
    at: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            at.setdefault(step, []).append(value)
    steps = sorted(step for step, values in at.items() if len(values) == len(curves))
    axis.fill_between(steps, [min(at[s]) for s in steps], [max(at[s]) for s in steps], color=color, alpha=0.12, lw=0)
    axis.plot(steps, [float(np.mean(at[s])) for s in steps], color=color, label=label, linewidth=1.4)
