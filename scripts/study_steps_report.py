"""The table and the picture of scripts/study_steps.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_jobs import cell, write_between_marks

from balrl.evaluation import bootstrap_interval
from balrl.report.figures import drawn

COLOURS = {
    "sft": "#8a8a8a",
    "rft": "#2f6f9f",
    "weighted": "#c8553d",
    "pairs": "#3a7d44",
    "rft-pairs": "#c99a2e",
    "exact": "#8058a5",
    "exact-hopeful": "#b79bd0",
}


def report(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]], results: Path) -> None:
    """Write the tables into docs/results/steps.md, and the picture."""
    base = [r for r in records if r["kind"] == "base"]
    at = {(r["kind"], r["count"], r["seed"]): r for r in records}
    lines = [
        "| problems | data | seeds | texts or pairs | right, greedy, % | right, sampled, % | greedy, above the base | "
        "greedy, above rft | sampled, above rft |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| 0 | base | {len(base)} | — | {percent(base, 'greedy')} | {percent(base, 'sampled')} | — | — | — |",
    ]
    for count in protocol["counts"]:
        for kind in protocol["kinds"]:
            rows = [r for r in records if (r["kind"], r["count"]) == (kind, count)]
            if not rows:
                continue
            above = [above_of(rows, at, "base", 0, "greedy")]
            above += [above_of(rows, at, "rft", count, n) if kind != "rft" else "—" for n in ("greedy", "sampled")]
            data = round(float(np.mean([r["data"] for r in rows])))
            cells = [str(len(rows)), str(data), percent(rows, "greedy"), percent(rows, "sampled"), *above]
            lines.append(f"| {count} | {kind} | {' | '.join(cells)} |")
    lines += ["", "What is true of the base models' answers and of the estimates of their steps:", ""]
    lines += ["| | mean over seeds |", "| --- | --- |"]
    for name in base[0]["diagnosis"]:
        values = [r["diagnosis"][name] for r in base]
        low, high = bootstrap_interval([values], np.mean)
        lines.append(f"| {name} | {np.mean(values):.3g} [{low:.3g}, {high:.3g}] |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += ["", f"{hours:.1f} core-hours; commits {', '.join(sorted({r['commit'] for r in records}))}."]
    write_between_marks(results.parent.with_suffix(".md"), lines)
    draw(protocol, records, results.with_name("accuracy.png"))


def percent(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return a cell of percentages."""
    return cell([100 * r[name] for r in rows])


def above_of(
    rows: Sequence[Mapping[str, Any]], at: Mapping[tuple[str, int, int], Any], kind: str, count: int, name: str
) -> str:
    """Return a cell of differences to another kind, seed by seed, in points."""
    return cell([100 * (r[name] - at[kind, count, r["seed"]][name]) for r in rows])


def draw(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against the number of problems."""
    with drawn(path, 9.0, 3.4) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for at, (name, title) in zip(axes, (("greedy", "greedy"), ("sampled", "sampled, temperature 1")), strict=True):
            start = [100 * r[name] for r in records if r["kind"] == "base"]
            at.axhline(np.mean(start), color="black", lw=0.8, ls=":", label="base")
            for kind in protocol["kinds"]:
                values = [
                    [100 * r[name] for r in records if (r["kind"], r["count"]) == (kind, c)] for c in protocol["counts"]
                ]
                counts = [c for c, found in zip(protocol["counts"], values, strict=True) if found]
                values = [found for found in values if found]
                spread = np.array([bootstrap_interval([found], np.mean) for found in values])
                at.plot(counts, [np.mean(found) for found in values], color=COLOURS[kind], label=kind, marker="o", ms=3)
                at.fill_between(counts, spread[:, 0], spread[:, 1], color=COLOURS[kind], alpha=0.12, lw=0)
            at.set_xscale("log", base=2)
            at.set_xticks(protocol["counts"], [str(c) for c in protocol["counts"]])
            at.set_xlabel("problems")
            at.set_title(title)
        axes[0].set_ylabel("right answers to test problems, %")
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
