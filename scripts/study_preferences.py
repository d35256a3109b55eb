"""Measure offline RL on learned rewards: objectives, numbers of preferences and wrong labels, beside the true reward.

    python scripts/study_preferences.py --data DIR [--full] [--jobs 2] [--out runs/preferences]

DIR holds hopper-mixed-v5.hdf5. The protocol is scripts/study_preferences.yaml. Every job is a run directory under
--out; what it came to is kept as one line of docs/results/reward_ensembles/preferences.jsonl. Jobs with a kept result
are skipped, interrupted ones resumed. At the end, and with --report-only at once, the table in
docs/results/reward_ensembles.md is made from what is kept.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from study_jobs import Run, add_line, cell, parse_options, read_lines, run_sweep, summary_of, write_between_marks

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results"
KEPT = RESULTS / "reward_ensembles" / "preferences.jsonl"
MARK = "preferences"


class Job(NamedTuple):
    """One run of the agent on one reward; `pairs` is 0 for the true one."""

    seed: int
    pairs: int
    flip: float
    objective: str

    @property
    def name(self) -> str:
        return f"true-s{self.seed}" if not self.pairs else f"{self.learned_from}-{self.objective}"

    @property
    def learned_from(self) -> str:
        return f"p{self.pairs}-f{self.flip:g}-s{self.seed}"


def plan(protocol: dict[str, Any], full: bool) -> list[Job]:
    """Return all jobs, seed after seed."""
    pick = "full_" if full else ""
    jobs = []
    for seed in protocol[f"{pick}seeds"]:
        jobs.append(Job(seed, 0, 0.0, "true"))
        for pairs, flip, name in itertools.product(protocol[f"{pick}pairs"], protocol["flip"], protocol["objectives"]):
            jobs.append(Job(seed, pairs, flip, name))
    return jobs


def relabelled(job: Job, protocol: dict[str, Any], data: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """Return a job's data and how good its ensemble is; both are made where they are not there yet."""
    from balrl.data.writer import save_d4rl
    from balrl.rewards import FitConfig, LearnedReward, RewardEnsemble, Teacher, ask, fit_ensemble, quality
    from balrl.run.registry import load_dataset, make_env
    from balrl.spaces import SpaceAdapter

    folder = out / job.learned_from
    target = folder / f"{job.objective}.hdf5"
    dataset = load_dataset(data)
    env = make_env(str(dataset.env_id), 1)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    model, judged = folder / "reward.safetensors", folder / "quality.json"
    if not judged.exists():
        folder.mkdir(parents=True, exist_ok=True)
        steps, settings = protocol["segment_steps"], FitConfig(**protocol["fit"])
        preferences = ask(dataset, spaces, Teacher(flip=job.flip), job.pairs, steps, job.seed)
        ensemble = RewardEnsemble(preferences.inputs.shape[-1], protocol["members"], seed=job.seed)
        fit_ensemble(ensemble, preferences, settings, seed=job.seed)
        clean = ask(dataset, spaces, Teacher(), protocol["test_pairs"], steps, 1000 + job.seed)
        ensemble.save(model)
        judged.write_text(json.dumps(quality(ensemble, clean.inputs, clean.labels)))
    if not target.exists():
        coefficient = protocol["objectives"][job.objective]
        reward = LearnedReward(RewardEnsemble.load(model), job.objective, coefficient)
        if protocol["survive"]:
            reward = reward.shift_for_survival(dataset, spaces)
        save_d4rl(reward.relabel(dataset, spaces), target)
    return target, json.loads(judged.read_text())


def run_of(job: Job, protocol: dict[str, Any], source: Path, full: bool) -> Run:
    """Return what a job runs on its data."""
    settings = protocol["settings"] | (protocol["full_settings"] if full else {})
    return Run(protocol["preset"], settings | {"dataset": str(source), "seed": job.seed})


def keep(job: Job, found: dict[str, Any], path: Path) -> None:
    """Keep the result of a finished run.

    Args:
        job: that it was.
        found: of the reward model that its data was labelled by.
        path: of the run.
    """
    summary = summary_of(path)
    line = {
        "job": job.name,
        **job._asdict(),
        "score": summary["final"]["score"],
        "return": summary["final"]["return_mean"],
        "accuracy": found.get("ensemble_accuracy"),
        "member_accuracy": found.get("accuracy"),
        "seconds": sum(summary["wall_seconds"].values()),
        "git_commit": summary["git_commit"],
        "versions": summary["versions"],
    }
    add_line(KEPT, line)


def report(protocol: dict[str, Any]) -> None:
    """Write the table."""
    results = read_lines(KEPT)
    if not results:
        return
    names = list(protocol["objectives"])
    lines = [
        f"{len(results)} runs; {sum(r['seconds'] for r in results) / 3600:.1f} core-hours.",
        "",
        "| preferences | wrong labels | accuracy of members | of the ensemble | "
        + " | ".join(f"{name}: score" for name in names) + " |",
        "| --- " * (4 + len(names)) + "|",
    ]  # fmt: skip
    for pairs, flip in sorted({(r["pairs"], r["flip"]) for r in results if r["pairs"]}):
        rows = [r for r in results if (r["pairs"], r["flip"]) == (pairs, flip)]
        members = np.mean([x for r in rows for x in r["member_accuracy"]])
        scores = [cell([r["score"] for r in rows if r["objective"] == name]) for name in names]
        accuracy = np.mean([r["accuracy"] for r in rows])
        lines.append(f"| {pairs:,} | {flip:.0%} | {members:.3f} | {accuracy:.3f} | {' | '.join(scores)} |")
    true = [r["score"] for r in results if not r["pairs"]]
    lines += ["", f"On the true reward: {cell(true)}, seeds {', '.join(f'{x:.1f}' for x in true)}."]
    write_between_marks(RESULTS / "reward_ensembles.md", lines, MARK)


def main() -> None:
    options = parse_options(__doc__, "runs/preferences", (), "folder of hopper-mixed-v5.hdf5")
    protocol = yaml.safe_load((HERE / "study_preferences.yaml").read_text())
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    if options.data is not None and not options.report_only:
        data = options.data / protocol["dataset"]
        done = {line["job"] for line in read_lines(KEPT)}
        left = {job.name: job for job in plan(protocol, options.full) if job.name not in done}
        sources = {
            name: relabelled(job, protocol, data, options.out) if job.pairs else (data, {})
            for name, job in left.items()
        }
        runs = {name: run_of(job, protocol, sources[name][0], options.full) for name, job in left.items()}
        run_sweep(
            options.out / "sweep", runs, options.jobs, lambda name, path: keep(left[name], sources[name][1], path)
        )
    report(protocol)


if __name__ == "__main__":
    main()
