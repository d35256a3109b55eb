"""Learn HalfCheetah in many worlds at once, and see whether what was learned carries over to Gymnasium's simulator.

    python scripts/study_worlds.py [--data DIR] [--full] [--jobs 2] [--out runs/worlds] [--parts SAC WSRL …]

SAC from scratch needs nothing; WSRL needs DIR with halfcheetah-mixed-v5.hdf5. Protocol: scripts/study_worlds.yaml,
small for a CPU, --full for a GPU. Interrupted runs are resumed. Policies from the end of each phase are evaluated in
MuJoCo Warp and in Gymnasium's own environment; the table in docs/results/envs.md is made from all that is kept.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import yaml
from study_jobs import Run, add_line, cell, parse_options, read_lines, run_sweep, summary_of, write_between_marks

import balrl

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "envs" / "learning.jsonl"
PAGE = HERE.parent / "docs" / "results" / "envs.md"
ENGINES = {"worlds": "balrl/HalfCheetah-v5", "gymnasium": "HalfCheetah-v5"}


def run_of(settings: dict[str, Any], seed: int, data: Path | None) -> Run:
    """Return what a method runs."""
    given = {key: value for key, value in settings.items() if key not in ("preset", "seeds")} | {"seed": seed}
    if settings["preset"].startswith("wsrl"):
        given["dataset"] = str((data or Path()) / "halfcheetah-mixed-v5.hdf5")
    return Run(settings["preset"], given)


def results_of(path: Path, method: str, seed: int, size: str, episodes: int) -> dict[str, Any]:
    """Evaluate the policies at the end of each phase in both simulators."""
    summary = summary_of(path)
    ends = {p.name.rsplit("-", 1)[1]: p for p in sorted((path / "checkpoints").glob("*-end-*"))}
    scores = {}
    for phase, checkpoint in ends.items():
        if phase != "warmup":
            agent = balrl.load_agent(checkpoint)
            scores[phase] = {
                engine: balrl.evaluate(agent, env_id, episodes=episodes, seed=20_000).mean_return
                for engine, env_id in ENGINES.items()
            }
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return {
        "method": method,
        "seed": seed,
        "size": size,
        "machine": machine,
        "wall_seconds": summary.get("wall_seconds"),
        "env_steps": summary.get("env_steps"),
        "updates": summary.get("updates"),
        "returns": scores,
    }


def report() -> None:
    """Write the table of everything that is kept."""
    kept = read_lines(RESULTS)
    lines = [
        "| size | method | seeds | after | mean return in MuJoCo Warp | in Gymnasium | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, method in dict.fromkeys((r["size"], r["method"]) for r in kept):
        rows = [r for r in kept if (r["size"], r["method"]) == (size, method)]
        minutes = cell([sum(r["wall_seconds"].values()) / 60 for r in rows if r["wall_seconds"]])
        for phase in rows[0]["returns"]:
            found = {e: cell([r["returns"][phase][e] for r in rows]) for e in ENGINES}
            lines.append(
                f"| {size} | {method} | {len(rows)} | {phase} | {found['worlds']} | {found['gymnasium']} | {minutes} |"
            )
    write_between_marks(PAGE, lines)


def main() -> None:
    parts = ("SAC", "WSRL", "SAC-100k", "FastSAC-100k")
    options = parse_options(__doc__, "runs/worlds", parts, "folder of halfcheetah-mixed-v5.hdf5")
    protocol = yaml.safe_load((HERE / "study_worlds.yaml").read_text())
    size = "full" if options.full else "small"
    part = protocol[size]
    jobs = [
        (method, seed, part["settings"] | settings)
        for method, settings in part["runs"].items()
        for seed in settings.get("seeds", part["seeds"])
        if method.split()[0] in options.parts and not options.report_only
    ]
    jobs.sort(key=lambda job: job[1])  # what is stopped early has equal numbers of seeds
    labels = {f"{method}, seed {seed}": (method, seed) for method, seed, _ in jobs}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)

    def keep(label: str, path: Path) -> None:
        kept = read_lines(RESULTS)
        if (*labels[label], size) not in [(r["method"], r["seed"], r["size"]) for r in kept]:
            add_line(RESULTS, results_of(path, *labels[label], size, protocol["episodes"]))

    runs = {f"{method}, seed {seed}": run_of(settings, seed, options.data) for method, seed, settings in jobs}
    run_sweep(options.out, runs, options.jobs, keep)
    report()


if __name__ == "__main__":
    main()
