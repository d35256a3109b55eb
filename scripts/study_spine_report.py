"""What scripts/study_spine.py keeps of its runs, and the tables and pictures made of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from study_jobs import cell, summary_of, write_between_marks

from balrl.data.dataset import Array
from balrl.envs import PointMazeVectorEnv
from balrl.evaluation import bootstrap_interval
from balrl.report.curves import COLORS
from balrl.run.registry import load_dataset
from balrl.run.trained import load_agent

Result = dict[str, Any]
Runs = dict[tuple[str, str, str], list[Result]]


def keep(run_dir: Path, target: Path) -> None:
    """Write what a finished run came to into one JSON file."""
    summary = summary_of(run_dir)
    summary["dataset"] = Path(str(summary["dataset"])).name  # where the file lay is nobody's business
    evaluations = json.loads((run_dir / "evaluations.json").read_text())
    for record in evaluations:
        del record["lengths"]
    result = {"summary": summary, "evaluations": evaluations}
    if summary["dataset"] == "point-maze-halves":
        result["balance"] = balance_by_half(run_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result) + "\n")


def balance_by_half(run_dir: Path) -> dict[str, float]:
    """Return the mean balance that a run's agent gives the data's states, in each half of the maze."""
    data = load_dataset("point-maze-halves")
    env = PointMazeVectorEnv(1)
    observations = torch.from_numpy(data.observations)
    right = env.states_of(observations)[:, 0] >= env.walls.shape[1] / 2
    agent = load_agent(run_dir, "cpu")
    with torch.no_grad():
        chosen = agent.balance.mode(agent.normalizer(observations))
    return {"left": float(chosen[~right].mean()), "right": float(chosen[right].mean())}


def report(jobs: Sequence[Any], results: Path) -> None:
    """Write the tables between the marks of ``spine.md`` and the pictures beside it, from the kept results."""
    runs: Runs = defaultdict(list)
    for job in jobs:
        file = results / f"{job.name}.json"
        if file.exists():
            runs[job.part, job.dataset, job.method].append(json.loads(file.read_text()))
    planned = len({job.seed for job in jobs})
    lines = [*_provenance(runs, len(jobs)), *_locomotion(runs, planned), *_grid(runs), *_halves(runs)]
    write_between_marks(results.with_suffix(".md"), lines)
    _draw_locomotion(runs, results)


def _provenance(runs: Runs, planned: int) -> list[str]:
    summaries = [result["summary"] for group in runs.values() for result in group]
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
            offline = [_offline(r["evaluations"]) for r in group]
            online = [o for o in (_online(r["evaluations"]) for r in group) if len(o)]
            cells = [
                cell([float(s.max()) for s in offline]),
                cell([float(s[-1]) for s in offline]),
                cell([_swing(s) for s in offline]),
                cell([float(s[-1]) for s in online]),
                cell([float(s.max()) for s in online]),
                cell([float(s.min()) for s in online]),
            ]
            lines.append(f"| {method} | {len(group)} of {planned} | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"![Scores over training](spine/{dataset}.png)",
            "",
            "Each seed, last offline → after fine-tuning:",
            "",
        ]
        for (part, name, method), group in runs.items():
            if (part, name) == ("locomotion", dataset):
                pairs = []
                for result in group:
                    online, offline = _online(result["evaluations"]), _offline(result["evaluations"])
                    after = f" → {online[-1]:.1f}" if len(online) else ""
                    pairs.append(f"seed {result['summary']['seed']}: {offline[-1]:.1f}{after}")
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
        offline = [_offline(r["evaluations"]) for r in group]
        seconds = np.mean([sum(r["summary"]["wall_seconds"].values()) for r in group])
        last, best = cell([float(s[-1]) for s in offline]), cell([float(s.max()) for s in offline])
        lines.append(f"| {method} | {len(group)} | {last} | {best} | {seconds:.0f} |")
    return [*lines, ""]


def _halves(runs: Runs) -> list[str]:
    groups = [group for (part, _, _), group in runs.items() if part == "halves"]
    if not groups:
        return []
    lines = [
        "### The balance where the data is good and where it is random (point maze, offline)",
        "",
        "| seed | left half (optimal data) | right half (random data) | left − right |",
        "| --- | --- | --- | --- |",
    ]
    differences = []
    for result in groups[0]:
        left, right = result["balance"]["left"], result["balance"]["right"]
        differences.append(left - right)
        lines.append(f"| {result['summary']['seed']} | {left:.2f} | {right:.2f} | {left - right:+.2f} |")
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
            group = runs["locomotion", dataset, method]
            curves = [{e["step"]: e["score"] for e in result["evaluations"]} for result in group]
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
        figure.savefig(results / f"{dataset}.png")
