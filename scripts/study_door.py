"""A door, 25 human demonstrations: BC, IQL, ReBRAC and FamO2O whose member is chosen by its own episodes.

    python scripts/study_door.py --data DIR [--jobs 2] [--full]

DIR holds adroit-door-human-v1.hdf5. Protocol: scripts/study_door.yaml. Runs are resumed; what is done is kept in
docs/results/balances/door.jsonl and not run again; --report-only makes the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from study_jobs import Run, add_line, cell, parse_options, read_lines, run_sweep, summary_of, write_between_marks

from balrl.cli.main import main as balrl_command

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "balances" / "door.jsonl"
FILE = "adroit-door-human-v1.hdf5"


def relabelled(data: Path, out: Path) -> Path:
    """Return the demonstrations with sparse rewards, made once."""
    target = out / "door-sparse.hdf5"
    if not target.exists():
        out.mkdir(parents=True, exist_ok=True)
        rewards = ["--success", "infos/goal_achieved", "--reward", "10", "--otherwise", "-0.1"]
        if balrl_command(["data", "relabel", str(data / FILE), str(target), *rewards]):
            raise SystemExit("the demonstrations could not be relabelled")
    return target


def run_of(method: str, seed: int, protocol: dict[str, Any], dataset: Path) -> Run:
    """Return what a method runs."""
    settings = {**protocol["settings"], **protocol["methods"][method], "seed": seed, "dataset": str(dataset)}
    return Run(settings.pop("preset"), settings)


def keep(method: str, seed: int, path: Path) -> None:
    """Keep what came out of a finished run."""
    summary = summary_of(path)
    chosen = summary["selection"]
    record = {
        "method": method,
        "seed": seed,
        "commit": summary["git_commit"],
        "seconds": round(sum(summary["wall_seconds"].values()), 1),
        "evaluations": [
            {key: e[key] for key in ("phase", "updates", "env_steps", "success_rate", "return_mean")}
            for e in json.loads((path / "evaluations.json").read_text())
        ],
        "chosen": chosen["arms"][chosen["winner"]]["label"] if chosen else None,
        "arms": [[a["label"], a["episodes"], a["mean"]] for a in chosen["arms"]] if chosen else None,
    }
    add_line(RESULTS, record)


def report() -> None:
    """Write the table of everything that is kept."""
    records = read_lines(RESULTS)
    lines = [
        "| method | seeds | success after 20,000 updates | as fine-tuning begins | after 20,000 steps | lowest online "
        "| core-minutes a run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(r["method"] for r in records):
        rows = [r for r in records if r["method"] == method]
        success = [[100 * e["success_rate"] for e in r["evaluations"]] for r in rows]
        offline = [max(i for i, e in enumerate(r["evaluations"]) if e["phase"] != "finetune") for r in rows]
        columns = [cell([s[1] for s in success])]  # the first evaluation is the untrained policy's
        online = all(len(s) > i + 1 for s, i in zip(success, offline, strict=True))
        columns.append(cell([s[i] for s, i in zip(success, offline, strict=True)]) if online else "—")
        columns.append(cell([s[-1] for s in success]) if online else "—")
        columns.append(cell([min(s[i + 1 :]) for s, i in zip(success, offline, strict=True)]) if online else "—")
        minutes = sum(r["seconds"] for r in rows) / len(rows) / 60
        lines.append(f"| {method} | {len(rows)} | {' | '.join(columns)} | {minutes:.1f} |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += [
        "",
        f"Percent of episodes; {len(records)} runs, {hours:.1f} core-hours; commits "
        f"{', '.join(sorted({r['commit'] for r in records}))}.",
    ]
    write_between_marks(RESULTS.parents[1] / "balances.md", lines, "door")


def main() -> None:
    options = parse_options(__doc__, "runs/door", ["runs"], f"directory with {FILE}")
    protocol = yaml.safe_load((HERE / "study_door.yaml").read_text())
    done = {(r["method"], r["seed"]) for r in read_lines(RESULTS)}
    seeds = protocol["full_seeds" if options.full else "seeds"]
    left = [(m, s) for s in seeds for m in protocol["methods"] if (m, s) not in done]
    if left and not options.report_only:
        dataset = relabelled(options.data or Path(), options.out)
        labels = {f"{method}, seed {seed}": (method, seed) for method, seed in left}
        runs = {label: run_of(*job, protocol, dataset) for label, job in labels.items()}
        run_sweep(options.out / "sweep", runs, options.jobs, lambda label, path: keep(*labels[label], path))
    report()


if __name__ == "__main__":
    main()
