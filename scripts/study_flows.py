"""Flow policies and chunks of actions beside behaviour cloning, IQL and ReBRAC: offline, and fine-tuned.

    python scripts/study_flows.py --data FOLDER [--jobs 2] [--full]

FOLDER holds the locomotion files of the protocol (scripts/study_flows.yaml); without it only the maze is run. What is
done is kept, a line per run, in docs/results/flows/runs.jsonl and not run again; --report-only makes the table.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from study_jobs import cell, finished_summary, parse_options, train_or_resume, write_between_marks

import balrl
from balrl.evaluation import evaluate_policy
from balrl.run.registry import make_env, reference_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "flows" / "runs.jsonl"
PARTS = ("locomotion", "fork", "fork-good")
FLOWS = ("fql", "qc-fql")
WRITING = threading.Lock()


class Job(NamedTuple):
    """One run."""

    part: str
    method: str
    data: str
    seed: int


def settings_of(job: Job, protocol: Mapping[str, Any], folder: Path | None) -> dict[str, str]:
    """Return what a job's preset is given."""
    part = protocol[job.part]
    found = {**protocol["settings"], **part["settings"], **part["data"][job.data]}
    found |= protocol["methods"][job.method].get(job.part, {}) | {"seed": job.seed}
    if job.part == "locomotion":
        assert folder is not None
        found["dataset"] = folder / found["dataset"]
    if job.method == "bc":  # which has nothing to learn online
        found = {key: value for key, value in found.items() if not key.startswith("finetune")}
        found["pretrain.updates"] = part["settings"].get("pretrain.updates", 6000)
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in found.items()}


def run(job: Job, protocol: Mapping[str, Any], folder: Path | None, out: Path) -> dict[str, Any] | None:
    """Train, and return what is kept; None if the run failed, whose log is left."""
    path = out / "-".join(map(str, job))
    settings = settings_of(job, protocol, folder)
    begun = time.time()
    if finished_summary(path) is None:
        code = train_or_resume(path, f"{job.method}/{protocol[job.part]['preset']}", settings)
        if code:
            print(f"{path}: exit code {code}, see log.txt", flush=True)
            return None
    summary, evaluations = finished_summary(path), json.loads((path / "evaluations.json").read_text())
    assert summary is not None
    record: dict[str, Any] = {**job._asdict(), "commit": summary["git_commit"], "seconds": round(time.time() - begun)}
    for phase, names in (("offline", ("pretrain",)), ("online", ("warmup", "finetune"))):
        record[phase] = [round(e["score"], 2) for e in evaluations if e["phase"] in names and e["updates"]]
    if job.method in FLOWS:
        record["sampled"] = sampled(path, protocol["sampled_episodes"])
    shutil.rmtree(path)
    return record


def sampled(path: Path, episodes: int) -> float:
    """Return the score of a run's last policy when it samples its actions."""
    agent = balrl.load_agent(path, device="cpu")
    config = yaml.safe_load((path / "config.yaml").read_text())
    env = make_env(config["env"], episodes, agent.device, config["env_kwargs"])
    agent.stream.reseed(0)
    found = evaluate_policy(agent.act, env, episodes, 10_000, reference=reference_of(config["env"], env))
    env.close()
    return round(found.score, 2)


def read_kept() -> list[dict[str, Any]]:
    """Return what is done."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def report(protocol: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Write the table."""
    lines = [
        "| data | method | seeds | offline, last | offline, last half | online, mean | online, last | sampled, last |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for data in (data for part in PARTS for data in protocol[part]["data"]):
        for method in protocol["methods"]:
            rows = [r for r in records if (r["data"], r["method"]) == (data, method)]
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
            lines.append(f"| {data} | {method} | {len(rows)} | {' | '.join(shown)} |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += ["", f"{hours:.1f} core-hours; commits {', '.join(sorted({r['commit'] for r in records}))}."]
    write_between_marks(RESULTS.parent.parent / "flows.md", lines, "runs")


def main() -> None:
    protocol = yaml.safe_load((HERE / "study_flows.yaml").read_text())
    options = parse_options(__doc__, "runs/flows", PARTS, "folder with the locomotion files", list(protocol["methods"]))
    done = {tuple(r[key] for key in Job._fields) for r in read_kept()}
    jobs = [
        Job(part, method, data, seed)
        for part in options.parts
        for seed in protocol[part]["full_seeds" if options.full else "seeds"]
        for data in protocol[part]["data"]
        for method in options.methods or protocol["methods"]
        if part != "locomotion" or options.data is not None
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as workers:
        missing = [] if options.report_only else sorted((j for j in jobs if j not in done), key=lambda j: j.seed)
        for future in as_completed([workers.submit(run, job, protocol, options.data, options.out) for job in missing]):
            record = future.result()
            if record is not None:
                with WRITING, RESULTS.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(*(record[key] for key in Job._fields), flush=True)
    report(protocol, read_kept())


if __name__ == "__main__":
    main()
