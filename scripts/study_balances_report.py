"""Tables and pictures of `study_balances.py`: methods against the grid's best fixed balance, chosen with hindsight."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_jobs import cell, write_between_marks

from balrl.evaluation import bootstrap_interval, iqm, probability_of_improvement
from balrl.report.bands import iqm_band, performance_profile
from balrl.report.figures import drawn

Record = Mapping[str, Any]
Scores = list[list[float]]
"""``[data sets][seeds]``."""
BEST = "best fixed, with hindsight"
COLOURS = ("#2f6f9f", "#c8553d", "#3a7d44", "#8a5a9e", "#b8860b", "#555555", "#17a2a2", "#d27d9b", "#7f6a4f")


def report(protocol: Mapping[str, Any], records: Sequence[Record], folder: Path) -> None:
    """Write the tables between the page's marks, and a picture for each base on each group of data sets."""
    lines: list[str] = []
    for name, group in protocol["groups"].items():
        warmup = group["settings"]["warmup.steps"]
        for base in group["bases"]:
            own = [r for r in records if r["base"] == base and r["data"] in group["data"]]
            if not own:
                continue
            seeds = {data: len({r["seed"] for r in own if r["data"] == data}) for data in group["data"]}
            about = ", ".join(f"{data} ({count})" for data, count in seeds.items() if count)
            lines += [f"### {base}, {name}", "", f"Data sets (seeds): {about}.", ""]
            lines += table(own, warmup)
            lines += ["", *by_data(own, warmup)]
            picture = f"{name}-{base}.png"
            draw(own, warmup, folder / picture, f"{base}, {name}")
            lines += ["", f"![Served score over steps, and profiles of the last]({folder.name}/{picture})", ""]
    lines += [*floors(protocol, records), ""]
    hours = sum(r["online_seconds"] + r["pretrain_seconds"] for r in records) / 3600
    commits = ", ".join(sorted({r["commit"] for r in records}))
    lines.append(
        f"{len(records)} runs, at most {hours:.1f} core-hours (shared pre-training counted each time); {commits}."
    )
    write_between_marks(folder.parent / "balances.md", lines, "balances")


def at_switch(record: Record, warmup: int) -> float:
    """Return the served score as fine-tuning begins: after the choice, where there is one."""
    return [s for s, steps in zip(record["served"], record["steps"], strict=True) if steps <= warmup][-1]


def online(record: Record, warmup: int) -> list[float]:
    """Return the served scores of fine-tuning."""
    return [s for s, steps in zip(record["served"], record["steps"], strict=True) if steps > warmup]


METRICS: dict[str, Callable[[Record, int], float]] = {
    "at the switch": at_switch,
    "mean online": lambda r, w: float(np.mean(online(r, w))),
    "last": lambda r, w: online(r, w)[-1],
    "lowest − switch": lambda r, w: min(online(r, w)) - at_switch(r, w),
}


def methods_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the runs of each method; fixed balances are methods of their own."""
    found: dict[str, list[Record]] = {}
    for r in sorted(records, key=lambda r: (r["method"] != "fixed", r["method"].startswith("family"))):
        name = f"fixed {r['balance']:g}" if r["method"] == "fixed" else r["method"]
        found.setdefault(name, []).append(r)
    return found


def scores(runs: Sequence[Record], warmup: int, metric: str) -> dict[str, list[float]]:
    """Return a metric's values by data set."""
    found: dict[str, list[float]] = {}
    for r in sorted(runs, key=lambda r: (r["data"], r["seed"])):
        found.setdefault(r["data"], []).append(METRICS[metric](r, warmup))
    return found


def best_fixed(methods: Mapping[str, Sequence[Record]], warmup: int, metric: str) -> dict[str, list[float]]:
    """Return, for each data set, the values of the fixed balance with the best mean over its seeds."""
    grid = [scores(runs, warmup, metric) for name, runs in methods.items() if name.startswith("fixed ")]
    return {data: max((g[data] for g in grid if data in g), key=np.mean) for data in grid[0]}


def seconds(runs: Sequence[Record]) -> float:
    """Return the core-seconds of one run on average, pre-training included."""
    return float(np.mean([r["pretrain_seconds"] + r["online_seconds"] for r in runs]))


def table(records: Sequence[Record], warmup: int) -> list[str]:
    """Return the table of one base on one group of data sets."""
    methods = methods_of(records)
    grid = sum(seconds(runs) for name, runs in methods.items() if name.startswith("fixed "))
    head = [*METRICS, "P(better online)", "P(better last)", "core-seconds, of the grid's"]
    lines = [f"| method | {' | '.join(head)} |", f"| --- |{' --- |' * len(head)}"]
    best = {metric: best_fixed(methods, warmup, metric) for metric in METRICS}
    rows = {BEST: None, **methods}
    for name, runs in rows.items():
        found = best if runs is None else {metric: scores(runs, warmup, metric) for metric in METRICS}
        cells = [shown(list(found[metric].values())) for metric in METRICS]
        for metric in ("mean online", "last"):
            shared = [data for data in found[metric] if data in best[metric]]
            pair: tuple[Scores, Scores] = ([found[metric][d] for d in shared], [best[metric][d] for d in shared])
            p, low, high = probability_of_improvement(*pair)
            cells.append("—" if runs is None else f"{p:.2f} [{low:.2f}, {high:.2f}]")
        used = grid if runs is None else seconds(runs)
        cells.append(f"{used:.0f}, {100 * used / grid:.0f} %")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def by_data(records: Sequence[Record], warmup: int) -> list[str]:
    """Return the means on each data set, of the families that serve their newest policy."""
    lines = ["| data | method | at the switch | mean online | last |", "| --- | --- | --- | --- | --- |"]
    for data in dict.fromkeys(r["data"] for r in records):
        for name, runs in methods_of(records).items():
            found = [scores(runs, warmup, metric).get(data) for metric in ("at the switch", "mean online", "last")]
            if "champion" not in name and "modes" not in name and all(found):
                lines.append(
                    f"| {data} | {name} | {' | '.join(f'{np.mean(values):.1f}' for values in found if values)} |"
                )
    return lines


def floors(protocol: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    """Return, for each method that serves a champion, whether it held, and what it cost against serving the newest."""
    warmups = {data: g["settings"]["warmup.steps"] for g in protocol["groups"].values() for data in g["data"]}
    own = {base: grid[len(grid) // 2] for g in protocol["groups"].values() for base, grid in g["bases"].items()}
    runs = {
        (r["method"], r["data"], r["base"], r["seed"]): r
        for r in records
        if r["method"] != "fixed" or r["balance"] == own[r["base"]]
    }
    lines = [
        "| method | runs | never more than 5 below the switch | the same without a champion | mean online, against it "
        "| last, against it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(name for name, *_ in runs if "champion" in name):
        plain = re.sub(r",? champion( by its own episodes| after 3 episodes)?", "", method)
        pairs = [(r, runs[plain, *rest]) for (name, *rest), r in runs.items() if name == method]
        cells = [str(len(pairs))]
        for side in zip(*pairs, strict=True):
            held = sum(METRICS["lowest − switch"](r, warmups[r["data"]]) >= -5 for r in side)
            cells.append(f"{held} of {len(side)}")
        for metric in ("mean online", "last"):
            cells.append(
                cell(
                    [METRICS[metric](r, warmups[r["data"]]) - METRICS[metric](o, warmups[r["data"]]) for r, o in pairs]
                )
            )
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def shown(values: Scores) -> str:
    """Return the interquartile mean and its interval."""
    middle = iqm([x for task in values for x in task])
    if max(map(len, values)) == 1:
        return f"{middle:.1f}"
    low, high = bootstrap_interval(values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def draw(records: Sequence[Record], warmup: int, path: Path, title: str) -> None:
    """Draw the served score over the steps of fine-tuning, and the profiles of the last scores."""
    methods = methods_of(records)
    with drawn(path, 12, 4.6) as figure:
        curves, profiles = figure.subplots(1, 2)
        thresholds = np.linspace(0, max(120.0, max(max(r["served"]) for r in records)), 60)
        for colour, (name, runs) in zip(COLOURS * 2, methods.items(), strict=False):
            tasks: dict[str, list[list[float]]] = {}
            for r in runs:
                tasks.setdefault(r["data"], []).append([at_switch(r, warmup), *online(r, warmup)])
            points = min(len(c) for task in tasks.values() for c in task)
            band = iqm_band([[c[:points] for c in task] for task in tasks.values()])
            steps = [0, *[s - warmup for s in runs[0]["steps"] if s > warmup]][:points]
            style = ":" if name.startswith("fixed ") else "--" if "champion" in name else "-"
            curves.plot(steps, band.value, style, color=colour, label=name, linewidth=1.5)
            last = [[c[-1] for c in task] for task in tasks.values()]
            profiles.plot(thresholds, performance_profile(last, thresholds).value, style, color=colour, linewidth=1.5)
        curves.set(xlabel="steps after the switch", ylabel="served score, interquartile mean", title=title)
        profiles.set(xlabel="score τ", ylabel="share of runs whose last score is above τ")
        figure.legend(
            *curves.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
        )
        for axis in (curves, profiles):
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
