"""One family whose member is chosen by returns, with and without a champion, against a grid of fixed balances.

    python scripts/study_balances.py --data DIR [--jobs 2] [--parts mazes locomotion] [--methods NAME …] [--full]

DIR holds the mixed files. Protocol: scripts/study_balances.yaml. What is done is kept, a line per run, in
docs/results/balances/runs.jsonl and not run again; --report-only makes the tables.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import yaml
from study_balances_report import report
from study_jobs import parse_options, read_lines

import balrl

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "balances" / "runs.jsonl"
KEY = ("data", "base", "seed", "method", "balance")
Cell = tuple[str, str, str, int]
"""Group, data, base, seed."""


def plan(protocol: Mapping[str, Any], groups: list[str], full: bool) -> list[Cell]:
    """Return all cells; what is stopped early has equal numbers of seeds."""
    cells = []
    for name in groups:
        group = protocol["groups"][name]
        for data in group["data"]:
            for seed in group["full"] if full else group["seeds"][data]:
                cells += [(name, data, base, seed) for base in group["bases"]]
    return sorted(cells, key=lambda cell: cell[3])


def jobs_of(
    group: Mapping[str, Any], base: str, methods: Mapping[str, Any], asked: list[str] | None
) -> list[tuple[str, float | None]]:
    """Return the runs of a cell: each method that is asked for, on every balance of the grid or on the family."""
    grid = group["bases"][base]
    own = grid[len(grid) // 2]
    found: list[tuple[str, float | None]] = [("fixed", balance) for balance in grid]
    left_out = {"fixed", *group.get("without", [])}
    wanted = [name for name in group.get("only", methods) if name not in left_out]
    found += [(name, own if name.startswith("fixed") else None) for name in wanted]
    return [job for job in found if asked is None or job[0] in asked]


def run_cell(
    cell: Cell,
    protocol: Mapping[str, Any],
    data: Path,
    out: Path,
    done: set[tuple[Any, ...]],
    asked: list[str] | None,
) -> list[Any]:
    """Pre-train what a cell's missing runs start from, make those runs, and return what is kept of them."""
    torch.set_num_threads(1)
    group_name, task, base, seed = cell
    group = protocol["groups"][group_name]
    place = out / f"{task}-{base}-{seed}"
    found, starts = [], {}
    for method, balance in jobs_of(group, base, protocol["methods"], asked):
        if (task, base, seed, method, balance) in done:
            continue
        own = dict(protocol["methods"][method])
        kind = own.pop("kind", "famo2o")
        preset = f"{base if balance is not None else f'{kind}-{base}'}/{group['domain']}"
        if (preset, balance) not in starts:
            path = place / f"start-{len(starts)}"
            starts[preset, balance] = pretrain(preset, cell, group, protocol, balance, data, path)
        start, seconds = starts[preset, balance]
        if own.pop("choose", False):
            own |= {"warmup.select": "halving", **group["selection"]}
        online = {
            **settings_of(cell, group, protocol, balance, data),
            **own,
            "init.checkpoint": str(start),
            "pretrain.updates": 0,
            "finetune.steps": protocol["online"],
            "finetune.eval_every": protocol["every"],
        }
        path = place / f"{method}-{balance}".replace(", ", "-")
        found.append(
            {"data": task, "base": base, "seed": seed, "method": method, "balance": balance}
            | kept(train(preset, online, path), path, seconds)
        )
    shutil.rmtree(place, ignore_errors=True)
    return found


def settings_of(
    cell: Cell, group: Mapping[str, Any], protocol: Mapping[str, Any], balance: float | None, data: Path
) -> dict[str, Any]:
    """Return what all runs of a cell share."""
    about = dict(group["data"][cell[1]])
    if about["dataset"].endswith(".hdf5"):
        about["dataset"] = str(data / about["dataset"])
    own = {} if balance is None else {"agent.balance.coefficient": balance}
    return {**protocol["settings"], **group["settings"], **about, **own, "seed": cell[3]}


def pretrain(
    preset: str,
    cell: Cell,
    group: Mapping[str, Any],
    protocol: Mapping[str, Any],
    balance: float | None,
    data: Path,
    path: Path,
) -> tuple[Path, float]:
    """Train offline; return the run and the core-seconds that it took."""
    settings = settings_of(cell, group, protocol, balance, data)
    settings |= {"warmup.steps": 0, "finetune.steps": 0, "pretrain.eval_every": 1_000_000, "evaluation.episodes": 2}
    summary = train(preset, settings, path)
    return path, sum(summary["wall_seconds"].values())


def train(preset: str, settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Train from scratch; return the summary."""
    shutil.rmtree(path, ignore_errors=True)
    summary: dict[str, Any] = balrl.train(balrl.load_config(preset, settings=settings), path).summary
    return summary


def kept(summary: Mapping[str, Any], path: Path, before: float) -> dict[str, Any]:
    """Return what is kept of a run; its first evaluation is the policy of pre-training."""
    evaluations = json.loads((path / "evaluations.json").read_text())
    champion, chosen = summary["champion"], summary["selection"]
    return {
        "commit": summary["git_commit"],
        "steps": [e["env_steps"] for e in evaluations],
        "served": [round(e["score"], 2) for e in evaluations],
        "learner": [round(e.get("learner", e)["score"], 2) for e in evaluations],
        "pretrain_seconds": round(before, 1),
        "online_seconds": round(sum(v for k, v in summary["wall_seconds"].items() if k != "evaluation"), 1),
        "chosen": chosen["arms"][chosen["winner"]]["label"] if chosen else None,
        "arms": [[a["label"], a["episodes"], a["mean"], a.get("mean_q")] for a in chosen["arms"]] if chosen else None,
        "changes": champion["changes"] if champion else None,
        "shares": champion["shares"] if champion else None,
    }


def main() -> None:
    protocol = yaml.safe_load((HERE / "study_balances.yaml").read_text())
    options = parse_options(
        __doc__, "runs/balances", list(protocol["groups"]), "directory with the mixed files", list(protocol["methods"])
    )
    done = {tuple(record[key] for key in KEY) for record in read_lines(RESULTS)}
    cells = [] if options.report_only else plan(protocol, options.parts, options.full)
    RESULTS.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {
            pool.submit(run_cell, cell, protocol, options.data or Path(), options.out, done, options.methods): cell
            for cell in cells
        }
        for future in as_completed(waiting):
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in future.result())
            print(*waiting[future], flush=True)
    report(protocol, read_lines(RESULTS), RESULTS.parent)


if __name__ == "__main__":
    main()
