"""Learning curves with matrix products in bfloat16 beside those in float32.

    python scripts/study_precision.py --data DIR [--full] [--jobs 2] [--out runs/precision] [--parts float32 bf16-mixed]

DIR holds hopper-mixed-v5.hdf5. Protocol: scripts/study_precision.yaml. Interrupted runs are resumed; the table in
docs/results/speed.md and the picture beside it are made from all that is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from study_jobs import Run, cell, parse_options, run_sweep, summary_of, write_between_marks

from balrl.evaluation import bootstrap_interval
from balrl.plain_yaml import parse_yaml

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "docs" / "results" / "speed"
RESULTS = FOLDER / "precision.jsonl"
PRECISIONS = ("float32", "bf16-mixed")
LAST = 3
"""Evaluations that make a run's end."""


def run_of(settings: dict[str, Any], data: Path | None) -> Run:
    """Return what a job runs."""
    given = {key: parse_yaml(value, key) if isinstance(value, str) else value for key, value in settings.items()}
    given.pop("seeds", None)
    if "dataset" in given:
        given["dataset"] = str((data or Path()) / given["dataset"])
    return Run(given.pop("preset"), given)


def result_of(path: Path) -> dict[str, Any]:
    """Return what is kept of a finished run."""
    summary = summary_of(path)
    evaluations = json.loads((path / "evaluations.json").read_text())
    return {
        "seed": summary["seed"],
        "precision": summary["precision"],
        "commit": summary["git_commit"],
        "steps": [e["step"] for e in evaluations],
        "returns": [round(e["return_mean"], 2) for e in evaluations],
        "seconds": sum(summary["wall_seconds"].values()),
    }


def report() -> None:
    """Draw the curves, and write the table of everything that is kept."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    tasks = list(dict.fromkeys(r["task"] for r in kept))
    figure, axes = plt.subplots(1, len(tasks), figsize=(4.6 * len(tasks), 3.4), layout="constrained", squeeze=False)
    lines = [
        "| task | precision | seeds | mean return of the last three evaluations | minutes of a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, axis in zip(tasks, axes[0], strict=True):
        for precision, colour in zip(PRECISIONS, ("#1f77b4", "#d95f02"), strict=True):
            rows = [r for r in kept if (r["task"], r["precision"]) == (task, precision)]
            if not rows:
                continue
            ends, minutes = [np.mean(r["returns"][-LAST:]) for r in rows], [r["seconds"] / 60 for r in rows]
            lines.append(f"| {task} | {precision} | {len(rows)} | {cell(ends)} | {cell(minutes)} |")
            curves = np.array([r["returns"] for r in rows])
            steps = np.array(rows[0]["steps"])
            bands = np.array([bootstrap_interval([curves[:, i]], np.mean) for i in range(len(steps))])
            axis.plot(steps, curves.mean(0), color=colour, label=precision)
            axis.fill_between(steps, bands[:, 0], bands[:, 1], color=colour, alpha=0.2, linewidth=0)
        axis.set(title=task, xlabel="updates, then environment steps", ylabel="return")
        axis.xaxis.set_major_locator(plt.MaxNLocator(5))
        axis.legend(frameon=False)
    figure.savefig(FOLDER / "precision.png", dpi=130)
    write_between_marks(HERE.parent / "docs" / "results" / "speed.md", lines, "precision")


def main() -> None:
    options = parse_options(__doc__, "runs/precision", PRECISIONS, "directory with hopper-mixed-v5.hdf5")
    protocol = yaml.safe_load((HERE / "study_precision.yaml").read_text())
    size = "full" if options.full else "small"
    jobs = [
        (f"{size}-{index}-{precision}-{seed}", task, {**settings, **protocol["settings"], **own})
        for index, (task, settings) in enumerate(protocol[size]["tasks"].items())
        for seed in settings.get("seeds", protocol[size]["seeds"])
        for precision in options.parts
        for own in ({"precision": precision, "seed": seed},)
    ]
    jobs.sort(key=lambda job: int(job[2]["seed"]))  # what is stopped early has equal numbers of seeds
    if not options.report_only:
        kept: dict[str, Any] = {}
        tasks = {name: task for name, task, _ in jobs}

        def keep(name: str, path: Path) -> None:
            kept[name] = {"task": tasks[name], "size": size, **result_of(path)}

        runs = {name: run_of(settings, options.data) for name, _, settings in jobs}
        run_sweep(options.out, runs, options.jobs, keep)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("".join(json.dumps(r) + "\n" for r in kept.values()))
    report()


if __name__ == "__main__":
    main()
