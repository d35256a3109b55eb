"""Measure the spine: BC, IQL and FamO2O-IQL on hopper-mixed, and FamO2O's two claims in the point maze.

    python scripts/study_spine.py --data DIR [--full] [--jobs 2] [--out runs/spine]

DIR holds the D4RL-style files that the protocol (scripts/study_spine.yaml) names; without it only the maze parts run.
Every job is a run directory under --out; what it came to is kept in docs/results/spine/. Jobs with a kept result are
skipped, interrupted ones resumed, so the script can be stopped and started at will. At the end, and with --report-only
at once, the tables in docs/results/spine.md and the pictures beside it are made from the kept results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from study_jobs import Run, parse_options, run_sweep
from study_spine_report import keep, report

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "spine"


class Job(NamedTuple):
    """One run: a preset and settings over it."""

    part: str
    dataset: str
    method: str
    seed: int
    preset: str
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        method = self.method.replace(", ", "-").replace(" ", "-")
        return f"{self.part}-{self.dataset}-{method}-s{self.seed}"


def plan(protocol: dict[str, Any], data: Path | None, full: bool) -> list[Job]:
    """Return the jobs in order of importance: all seeds of a method before the next method."""
    seeds = protocol["full_seeds" if full else "seeds"]
    jobs = []
    for part in ("locomotion", "grid", "halves"):
        section = protocol[part]
        datasets = section.get("full_datasets" if full else "datasets", {"point-maze": None})
        for dataset, env in datasets.items():
            for method, options in section["methods"].items():
                for seed in seeds:
                    settings = {**section["settings"], **options, "seed": seed}
                    preset = settings.pop("preset")
                    if env is not None:
                        settings |= {"env": env, "dataset": str((data or Path()) / f"{dataset}.hdf5")}
                    jobs.append(Job(part, dataset, method, seed, preset, settings))
    return jobs


def main() -> None:
    data = "folder of the D4RL-style files; without it only the maze runs"
    options = parse_options(__doc__, "runs/spine", ("locomotion", "grid", "halves"), data)
    protocol = yaml.safe_load((HERE / "study_spine.yaml").read_text())
    jobs = plan(protocol, options.data, options.full)
    if not options.report_only:
        chosen = [j for j in jobs if j.part in options.parts and (j.part != "locomotion" or options.data is not None)]
        left = [job for job in chosen if not (RESULTS / f"{job.name}.json").exists()]
        runs = {job.name: Run(job.preset, job.settings) for job in left}
        run_sweep(options.out, runs, options.jobs, lambda name, path: keep(path, RESULTS / f"{name}.json"))
    report(jobs, RESULTS)


if __name__ == "__main__":
    main()
