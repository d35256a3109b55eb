"""Flow policies and chunks of actions beside behaviour cloning, IQL and ReBRAC: offline, and fine-tuned.

    python scripts/study_flows.py --data FOLDER [--jobs 2] [--full]

FOLDER holds the locomotion files of the protocol (scripts/study_flows.yaml); without it only the maze is run. What is
done is kept, a line per run, in docs/results/flows/runs.jsonl and not run again; --report-only makes the table.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from study_jobs import Run, add_line, cell, parse_options, read_lines, run_sweep, summary_of, write_between_marks

import balrl
from balrl.evaluation import evaluate_policy
from balrl.plain_yaml import parse_yaml
from balrl.run.registry import make_env, reference_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "flows" / "runs.jsonl"
PARTS = ("locomotion", "fork", "fork-good", "halfcheetah-why", "halfcheetah-again")
FLOWS = ("fql", "qc-fql")


class Job(NamedTuple):
    """One run."""

    part: str
    method: str
    data: str
    seed: int


def methods_of(part: str, protocol: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return a part's methods, each with the method whose preset it has, ``base``, and settings of its own."""
    general = {
        name: {"base": name, **settings.get(protocol[part]["preset"], {})}
        for name, settings in protocol["methods"].items()
    }
    return {
        name: {**general[method["base"]], **method} for name, method in protocol[part].get("methods", general).items()
    }


def run_of(job: Job, protocol: Mapping[str, Any], folder: Path | None) -> Run:
    """Return what a job runs."""
    part, method = protocol[job.part], dict(methods_of(job.part, protocol)[job.method])
    base = method.pop("base")
    found = {**protocol["settings"], **part["settings"], **part["data"][job.data], **method, "seed": job.seed}
    found = {key: parse_yaml(value, key) if isinstance(value, str) else value for key, value in found.items()}
    if part["preset"] == "locomotion":
        assert folder is not None
        found["dataset"] = str(folder / found["dataset"])
    if base == "bc":  # which has nothing to learn online
        found = {key: value for key, value in found.items() if not key.startswith("finetune")}
        found["pretrain.updates"] = part["settings"].get("pretrain.updates", 6000)
    return Run(f"{base}/{part['preset']}", found)


def keep(job: Job, path: Path, protocol: Mapping[str, Any]) -> None:
    """Keep what a finished run came to; of the run itself what it may be looked at for."""
    summary, evaluations = summary_of(path), json.loads((path / "evaluations.json").read_text())
    record: dict[str, Any] = {**job._asdict(), "commit": summary["git_commit"]}
    record["seconds"] = round(sum(summary["wall_seconds"].values()))
    for phase, names in (("offline", ("pretrain",)), ("online", ("warmup", "finetune"))):
        record[phase] = [round(e["score"], 2) for e in evaluations if e["phase"] in names and e["updates"]]
    if methods_of(job.part, protocol)[job.method]["base"] in FLOWS:
        record["sampled"] = sampled(path, protocol["sampled_episodes"])
    shutil.rmtree(path / "checkpoints")
    add_line(RESULTS, record)


def sampled(path: Path, episodes: int) -> float:
    """Return the score of a run's last policy when it samples its actions."""
    agent = balrl.load_agent(path, device="cpu")
    config = yaml.safe_load((path / "config.yaml").read_text())
    env = make_env(config["env"], episodes, agent.device, config["env_kwargs"])
    agent.stream.reseed(0)
    found = evaluate_policy(agent.act, env, episodes, 10_000, reference=reference_of(config["env"], env))
    env.close()
    return round(found.score, 2)


def report(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Write the table."""
    lines = [
        "| data | method | seeds | offline, last | offline, last half | online, mean | online, last | sampled, last |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    tables = [(part, data) for part in PARTS for data in protocol[part]["data"]]
    for part, data in tables:
        for method in methods_of(part, protocol):
            rows = [r for r in records if (r["part"], r["data"], r["method"]) == (part, data, method)]
            if not rows:
                continue
            offline, online = ([r[phase] for r in rows] for phase in ("offline", "online"))
            shown = [
                cell([scores[-1] for scores in offline]),
                cell([float(np.mean(scores[len(scores) // 2 :])) for scores in offline]),
                cell([float(np.mean(scores)) for scores in online if scores]),
                cell([scores[-1] for scores in online if scores]),
                cell([r["sampled"] for r in rows if "sampled" in r]),
            ]
            shown_data = part if "methods" in protocol[part] else data  # what looks into a reason has its own name
            lines.append(f"| {shown_data} | {method} | {len(rows)} | {' | '.join(shown)} |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += ["", f"{hours:.1f} core-hours; commits {', '.join(sorted({r['commit'] for r in records}))}."]
    write_between_marks(RESULTS.parent.parent / "flows.md", lines, "runs")


def main() -> None:
    protocol = yaml.safe_load((HERE / "study_flows.yaml").read_text())
    options = parse_options(__doc__, "runs/flows", PARTS, "folder with the locomotion files", list(protocol["methods"]))
    done = {tuple(r[key] for key in Job._fields) for r in read_lines(RESULTS)}
    jobs = [
        Job(part, method, data, seed)
        for part in options.parts
        for seed in protocol[part]["full_seeds" if options.full else "seeds"]
        for data in protocol[part]["data"]
        for method in methods_of(part, protocol)
        if method in (options.methods or [method])
        if protocol[part]["preset"] != "locomotion" or options.data is not None
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    missing = [] if options.report_only else sorted((j for j in jobs if j not in done), key=lambda j: j.seed)
    labels = {" ".join(map(str, job)): job for job in missing}
    runs = {label: run_of(job, protocol, options.data) for label, job in labels.items()}
    run_sweep(options.out, runs, options.jobs, lambda label, path: keep(labels[label], path, protocol))
    report(protocol, read_lines(RESULTS))


if __name__ == "__main__":
    main()
