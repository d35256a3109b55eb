"""Measure the switch: methods from the same pre-trained checkpoints, with and without data and warm-up.

    python scripts/study_switch.py [--data DIR] [--full] [--jobs 2] [--out runs/switch] [--parts maze …]

The mazes need nothing; hopper needs DIR with hopper-mixed-v5.hdf5. The protocol is scripts/study_switch.yaml. Every
job is a run directory under --out; what it came to is kept as one line of docs/results/switch/<part>.jsonl. Jobs with a
kept result are skipped, interrupted ones resumed, so the script can be stopped and started at will. At the end, and
with --report-only at once, the tables in docs/results/switch.md and the pictures beside it are made from what is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from study_jobs import Run, add_line, parse_options, run_sweep
from study_switch_report import read_results, report, result_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "switch"
PARTS = ("maze", "maze-medium", "hopper", "maze-strategies", "hopper-strategies")


class Job(NamedTuple):
    """One run: a preset, settings over it, and the job whose checkpoint it starts from."""

    part: str
    group: str
    method: str
    seed: int
    preset: str
    settings: dict[str, Any]
    source: str | None = None

    @property
    def name(self) -> str:
        words = f"{self.part} {self.group} {self.method}".translate(str.maketrans("", "", ",:-")).lower().split()
        return "-".join([*words, f"s{self.seed}"])


def plan(part: str, protocol: dict[str, Any], data: Path | None, full: bool) -> list[Job]:
    """Return the jobs of a part, each after the one that it starts from: the matrix of all seeds, then the ablation."""
    jobs = []
    seeds = protocol["full_seeds" if full else "seeds"]
    base = dict(protocol["settings"])
    if part.startswith("hopper"):
        base["dataset"] = str((data or Path()) / "hopper-mixed-v5.hdf5")
    for seed in seeds:
        for name, options in protocol["pretrain"].items():
            given = {key: value for key, value in options.items() if key != "preset"}
            settings = base | {"seed": seed} | protocol["pretrain_settings"] | given
            jobs.append(Job(part, "pretrain", name, seed, options["preset"], settings))
        for method, options in protocol["online"].items():
            jobs.append(online_job(part, "online", method, seed, base | {"seed": seed}, options, protocol))
    for seed in seeds:
        for method, options in ablation_methods(protocol.get("ablation")).items():
            jobs.append(online_job(part, "ablation", method, seed, base | {"seed": seed}, options, protocol))
    return jobs


def online_job(
    part: str, group: str, method: str, seed: int, base: dict[str, Any], given: dict[str, Any], protocol: dict[str, Any]
) -> Job:
    """Return one online run; its warm-up counts towards the interaction that every method has."""
    options = dict(given)
    preset, source = options.pop("preset"), options.pop("from", None)
    settings = base | protocol["online_settings"] | options
    collects = settings["warmup.steps"] and settings.get("warmup.kind") != "offline-data"
    settings["finetune.steps"] = protocol["online_steps"] - (settings["warmup.steps"] if collects else 0)
    start = Job(part, "pretrain", source, seed, "", {}).name if source else None
    return Job(part, group, method, seed, preset, settings, start)


def ablation_methods(ablation: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return every initialisation with every warm-up, but for WSRL itself, which is in the matrix."""
    methods = {}
    for parts in ablation["init.parts"] if ablation else []:
        for label, kind in ablation["warmup"].items():
            if (parts, kind) != ("policy-and-critic", "frozen-policy"):
                options = {"preset": ablation["preset"], "from": ablation["from"], "init.parts": parts}
                warmup = {"warmup.steps": ablation["warmup.steps"], "warmup.kind": kind} if kind else {}
                methods[f"{parts}, {label}"] = options | warmup
    return methods


def keep(job: Job, path: Path) -> None:
    """Keep the result of a finished run."""
    kept = RESULTS / f"{job.part}.jsonl"
    if job.name not in read_results(kept):
        add_line(kept, {"job": job.name, **result_of(path, job.method, job.group)})


def main() -> None:
    data = "folder of hopper-mixed-v5.hdf5; without it only the mazes run"
    options = parse_options(__doc__, "runs/switch", PARTS, data)
    protocol = yaml.safe_load((HERE / "study_switch.yaml").read_text())
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.report_only:
        parts = [p for p in options.parts if not p.startswith("hopper") or options.data is not None]
        jobs = [job for part in parts for job in plan(part, protocol[part], options.data, options.full)]
        kept = {name for part in parts for name in read_results(RESULTS / f"{part}.jsonl")}
        left = {job.name: job for job in jobs if job.name not in kept}
        left = {job.name: job for job in jobs if job.name in left or job.name in {j.source for j in left.values()}}
        runs = {name: Run(job.preset, job.settings, job.source) for name, job in left.items()}
        run_sweep(options.out, runs, options.jobs, lambda name, path: keep(left[name], path))
    report(protocol, RESULTS)


if __name__ == "__main__":
    main()
