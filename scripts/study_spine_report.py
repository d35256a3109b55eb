"""Tables and pictures of scripts/study_spine.py, from the run directories that are there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from balrl.build import load_dataset
from balrl.data.dataset import Array
from balrl.envs import PointMazeVectorEnv
from balrl.evaluation import bootstrap_interval
from balrl.report.curves import COLORS

START, END = "<!-- measured -->", "<!-- /measured -->"
Runs = dict[tuple[str, str, str], list[tuple[Path, dict[str, Any], list[dict[str, Any]]]]]


def report(jobs: Sequence[Any], out: Path, results: Path) -> None:
    """Write the tables between the marks of ``spine.md`` and the pictures beside it."""
    runs: Runs = defaultdict(list)
    for job in jobs:
        path = job.run_dir(out)
        summary_file = path / "summary.json"
        if summary_file.exists() and (summary := json.loads(summary_file.read_text()))["finished"]:
            evaluations = json.loads((path / "evaluations.json").read_text())
            runs[job.part, job.dataset, job.method].append((path, summary, evaluations))
    planned = len({job.seed for job in jobs})
    lines = [*_provenance(runs, len(jobs)), *_locomotion(runs, planned), *_grid(runs), *_halves(runs)]
    page = results / "spine.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")
    _draw_locomotion(runs, results)
    print(f"wrote {page}")


def _provenance(runs: Runs, planned: int) -> list[str]:
    summaries = [summary for group in runs.values() for _, summary, _ in group]
    commits = sorted({str(s["git_commit"]) for s in summaries})
    seconds = sum(sum(s["wall_seconds"].values()) for s in summaries)
    versions = summaries[0]["versions"] if summaries else {}
    shown = ", ".join(
        f"{name} {versions[name]}" for name in ("python", "torch", "gymnasium", "mujoco") if name in versions
    )
    return [
        f"{len(summaries)} of {planned} runs finished; {seconds / 3600:.1f} core-hours; "
        f"commits {', '.join(commits)}; {shown}.",
        "",
    ]


def _offline(evaluations: list[dict[str, Any]]) -> Array:
    return np.array([e["score"] for e in evaluations if e["phase"] == "pretrain" and e["step"] > 0])


def _online(evaluations: list[dict[str, Any]]) -> Array:
    return np.array([e["score"] for e in evaluations if e["phase"] == "finetune"])


def _swing(scores: Array) -> float:
    """The largest drop between consecutive scores; 0 if they never fall."""
    return float(max(0.0, *(scores[:-1] - scores[1:]))) if len(scores) > 1 else 0.0


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "—"
    low, high = bootstrap_interval([values], np.mean)
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}]"


def _locomotion(runs: Runs, planned: int) -> list[str]:
    lines = []
    for dataset in dict.fromkeys(d for part, d, _ in runs if part == "locomotion"):
        lines += [
            f"### {dataset}",
            "",
            "| method | seeds | best offline | last offline | swing offline | after fine-tuning | best online | "
            "lowest online |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for (part, name, method), group in runs.items():
            if (part, name) != ("locomotion", dataset):
                continue
            offline = [_offline(e) for _, _, e in group]
            online = [o for o in (_online(e) for _, _, e in group) if len(o)]
            cells = [
                _cell([float(s.max()) for s in offline]),
                _cell([float(s[-1]) for s in offline]),
                _cell([_swing(s) for s in offline]),
                _cell([float(s[-1]) for s in online]),
                _cell([float(s.max()) for s in online]),
                _cell([float(s.min()) for s in online]),
            ]
            lines.append(f"| {method} | {len(group)} of {planned} | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"![Scores over training](spine_{dataset}.png)",
            "",
            "Each seed, last offline → after fine-tuning:",
            "",
        ]
        for (part, name, method), group in runs.items():
            if (part, name) == ("locomotion", dataset):
                pairs = []
                for _, summary, e in group:
                    online = _online(e)
                    after = f" → {online[-1]:.1f}" if len(online) else ""
                    pairs.append(f"seed {summary['seed']}: {_offline(e)[-1]:.1f}{after}")
                lines.append(f"- {method}: " + "; ".join(pairs))
        lines.append("")
    return lines


def _grid(runs: Runs) -> list[str]:
    groups = {method: group for (part, _, method), group in runs.items() if part == "grid"}
    if not groups:
        return []
    lines = [
        "### One family against a grid of fixed balances (point maze, offline)",
        "",
        "| balance | seeds | last score | best score | core-seconds a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method, group in groups.items():
        offline = [_offline(e) for _, _, e in group]
        seconds = np.mean([sum(s["wall_seconds"].values()) for _, s, _ in group])
        last, best = _cell([float(s[-1]) for s in offline]), _cell([float(s.max()) for s in offline])
        lines.append(f"| {method} | {len(group)} | {last} | {best} | {seconds:.0f} |")
    return [*lines, ""]


def _halves(runs: Runs) -> list[str]:
    groups = [group for (part, _, _), group in runs.items() if part == "halves"]
    if not groups:
        return []
    import torch

    from balrl.api import load_agent

    data = load_dataset("point-maze-halves")
    env = PointMazeVectorEnv(1)
    observations = torch.from_numpy(data.observations)
    right = env.states_of(observations)[:, 0] >= env.walls.shape[1] / 2
    lines = [
        "### The balance where the data is good and where it is random (point maze, offline)",
        "",
        "| seed | left half (optimal data) | right half (random data) | left − right |",
        "| --- | --- | --- | --- |",
    ]
    differences = []
    for path, summary, _ in groups[0]:
        agent = load_agent(path, "cpu")
        with torch.no_grad():
            chosen = agent.balance.mode(agent.normalizer(observations))
        left_mean, right_mean = float(chosen[~right].mean()), float(chosen[right].mean())
        differences.append(left_mean - right_mean)
        lines.append(f"| {summary['seed']} | {left_mean:.2f} | {right_mean:.2f} | {left_mean - right_mean:+.2f} |")
    low, high = bootstrap_interval([differences], np.mean)
    lines += [
        "",
        f"Mean difference {np.mean(differences):+.2f} [{low:+.2f}, {high:+.2f}], over the states of the data.",
        "",
    ]
    return lines


def _draw_locomotion(runs: Runs, results: Path) -> None:
    for dataset in dict.fromkeys(d for part, d, _ in runs if part == "locomotion"):
        figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
        axis = figure.subplots()
        methods = [m for part, name, m in runs if (part, name) == ("locomotion", dataset)]
        for color, method in zip(COLORS, methods, strict=False):
            curves = [
                {e["step"]: e["score"] for e in evaluations}
                for _, _, evaluations in runs["locomotion", dataset, method]
            ]
            steps = sorted(set.intersection(*(set(curve) for curve in curves)))
            values = np.array([[curve[s] for s in steps] for curve in curves])
            axis.plot(steps, values.mean(0), color=color, marker="o", markersize=3, label=method)
            axis.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.13, linewidth=0)
        axis.axvline(50_000, color="#555555", linewidth=0.9, linestyle=":")
        axis.annotate("fine-tuning", (50_000, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -12),
                      textcoords="offset points", fontsize=9, color="#444444")  # fmt: skip
        axis.set_xlabel("updates (offline), then environment steps")
        axis.set_ylabel("normalised score")
        axis.set_title(f"{dataset}: mean and range over seeds", loc="left", fontsize=11)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(results / f"spine_{dataset}.png")
