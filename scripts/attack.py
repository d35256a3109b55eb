"""Attacks balrl: kills runs at random moments, feeds it broken files, and gives it tasks and disks that fail.

    python scripts/attack.py [kills] [inputs] [faults] [--out DIR] [--jobs 2]

What is done stands in attack.yaml. Each part appends a line per case to ``<out>/<part>.jsonl`` and goes on there; at
the end the tables of docs/results/reliability.md are written anew.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", WANDB_SILENT="true", WANDB_MODE="disabled", CUDA_VISIBLE_DEVICES="")

from study_jobs import read_lines, write_between_marks

from balrl.plain_yaml import read_config_file

PARTS = ("kills", "inputs", "faults")
HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "results" / "reliability.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "results" / "reliability")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    protocol = read_config_file(HERE / "attack.yaml")
    for part in options.parts or PARTS:
        _run(part, protocol, options.out / f"{part}.jsonl", options.jobs)
    lines: list[str] = []
    for part in PARTS:
        file = options.out / f"{part}.jsonl"
        results = read_lines(file)
        lines += ["", *_table(part, results)] if results else []
    if PAGE.exists():
        write_between_marks(PAGE, lines[1:])
    print("\n".join(lines))


def _run(part: str, protocol: dict[str, Any], kept: Path, jobs: int) -> None:
    """Run the cases of a part that have no result yet, each in a process of its own."""
    module = importlib.import_module(f"attack_{part}")
    done = {json.loads(line)["case"] for line in kept.read_text().splitlines()} if kept.exists() else set()
    left = [case for case in module.cases(protocol) if case["case"] not in done]
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool, kept.open("a") as lines:
        for count, result in enumerate(pool.map(module.attack, left), 1):
            lines.write(json.dumps(result) + "\n")
            lines.flush()
            if count % 20 == 0 or result["verdict"] != "good":
                print(f"{part} {count} of {len(left)}: {result['case']}: {result['verdict']}", flush=True)


def _table(part: str, results: list[dict[str, Any]]) -> list[str]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        groups[result["group"]].append(result)
    counted = "kills" if part == "kills" else "cases"
    total = Counter(result["verdict"] for result in results)
    lines = [f"| {part} | {counted} | good | not good |", "| --- | ---: | ---: | --- |"]
    for name, found in groups.items():
        bad = "; ".join(f"{r['case']}: {r['verdict']}" for r in found if r["verdict"] != "good") or "—"
        good = sum(r["verdict"] == "good" for r in found)
        lines.append(f"| {name} | {sum(r.get('count', 1) for r in found):,} | {good} of {len(found)} | {bad} |")
    count = sum(r.get("count", 1) for r in results)
    lines.append(f"| **all** | **{count:,}** | **{total['good']:,} of {len(results):,}** | |")
    return lines


if __name__ == "__main__":
    main()
