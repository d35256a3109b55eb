"""Several rewards: one policy for all preferences beside CAPQL and beside a grid of scalar runs.

Usage: python scripts/study_several.py OUT --peer PYTHON [--full] [--seeds 0 1]; goes on where it stopped. PYTHON is an
interpreter with morl-baselines (see capql_worker.py); without it CAPQL is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from study_jobs import add_line, read_lines, train_through

import balrl
from balrl.evaluation import Evaluation, together
from balrl.front import Front, simplex_grid
from balrl.report.front_plot import draw_fronts
from balrl.studies.report import interval

STYLE = ",.4g"
"""Of numbers in tables."""
HERE = Path(__file__).parent
EVALUATION_SEED = 10_000
NAMES = {"mo-sac": "mo-sac", "capql": "CAPQL (morl-baselines)", "grid": "grid of scalar SAC runs"}


def jobs(protocol: dict[str, Any], full: bool) -> Iterator[tuple[str, str, int]]:
    """Yield task, method and seed, seed after seed, so that what is there is comparable at any time."""
    for seed in protocol["full_seeds" if full else "seeds"]:
        for task in protocol["tasks"]:
            for method in protocol["methods"]:
                yield task, method, seed


def run(
    protocol: dict[str, Any], task: str, method: str, seed: int, steps: int, out: Path, peer: str
) -> dict[str, Any]:
    """Train and evaluate one method once."""
    about = protocol["tasks"][task]
    grid = simplex_grid(len(about["reference"]), protocol["preferences"]).tolist()
    if method == "capql":
        asked = {
            "env": about["env"],
            "seed": seed,
            "steps": steps,
            "preferences": grid,
            "episodes": protocol["episodes"],
            "evaluation_seed": EVALUATION_SEED,
        }
        done = subprocess.run(
            [peer, "-W", "ignore", str(HERE / "capql_worker.py")],
            input=json.dumps(asked),
            text=True,
            capture_output=True,
            check=True,
        )
        found = json.loads(done.stdout[done.stdout.index("{") :])
        played = [w for w in grid for _ in range(protocol["episodes"])]
        return {"preferences": played, "vectors": found["vectors"], "seconds": found["seconds"]}
    if method == "mo-sac":
        result, seconds = train(protocol, f"mo-sac/{task}", {}, seed, steps, out / f"{task}-{method}-{seed}")
        evaluation = evaluate(result, protocol, about, preferences=len(grid))
    else:
        parts, seconds = [], 0.0
        for index, weights in enumerate(about["grid"]):
            settings = {
                "env": about["env"],
                "data.reward_weights": weights,
                "warmup.steps": 1000,
                "evaluation.hypervolume_reference": about["reference"],
            }
            each = steps // len(about["grid"])
            path = out / f"{task}-{method}{index}-{seed}"
            result, took = train(protocol, "sac/locomotion", settings, seed, each, path)
            total = sum(weights)
            parts.append(evaluate(result, protocol, about, preference=[w / total for w in weights]))
            seconds += took
        evaluation = together(parts)
    return {"preferences": evaluation.preferences, "vectors": evaluation.return_vectors, "seconds": seconds}


def train(
    protocol: dict[str, Any], preset: str, settings: dict[str, Any], seed: int, steps: int, path: Path
) -> tuple[Path, float]:
    """Train a run of ours, or go on with it, and return where it is and how long it took."""
    given = {**protocol["settings"], **settings, "seed": seed, "finetune.steps": steps - 1000}
    config = balrl.load_config(preset, settings=given)
    began = time.perf_counter()
    train_through(path, config)
    return path, time.perf_counter() - began


def evaluate(path: Path, protocol: dict[str, Any], about: dict[str, Any], **asked: Any) -> Evaluation:
    """Play a trained run of ours."""
    count = protocol["episodes"]
    return balrl.evaluate(
        path, about["env"], episodes=count, num_envs=count, seed=EVALUATION_SEED, device="cpu", **asked
    )


def front_of(record: dict[str, Any]) -> Front:
    """Return the front of a finished job."""
    return Front.of_episodes(record["preferences"], record["vectors"])


def report(protocol: dict[str, Any], records: list[dict[str, Any]], out: Path) -> None:
    """Print the table and draw the fronts of the first seed."""
    print("| task | method | seeds | hypervolume | expected utility | best utility | minutes |")
    print("|---|---|---|---|---|---|---|")
    for task, about in protocol["tasks"].items():
        grid = simplex_grid(len(about["reference"]), protocol["preferences"])
        drawn = {}
        for method in protocol["methods"]:
            mine = [r for r in records if (r["task"], r["method"]) == (task, method)]
            if not mine:
                continue
            fronts = [front_of(r) for r in mine]
            drawn[NAMES[method]] = fronts[0]
            best = [float((grid @ f.points.T).max(1).mean()) for f in fronts]
            expected = best if method == "grid" else [f.expected_utility for f in fronts]
            cells = [interval(x, STYLE) for x in ([f.hypervolume(about["reference"]) for f in fronts], expected, best)]
            minutes = np.mean([r["seconds"] for r in mine]) / 60
            print(f"| {about['env']} | {NAMES[method]} | {len(mine)} | {' | '.join(cells)} | {minutes:.1f} |")
        if drawn:
            draw_fronts(drawn, out / f"several_rewards_{task}.png", about["reference"])


def report_cone(protocol: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Print expected utilities inside and outside of the preferences that CAPQL is trained under."""
    print("| task | method | inside CAPQL's 22.5 degrees | outside |")
    print("|---|---|---|---|")
    for task, about in protocol["tasks"].items():
        for method in ("mo-sac", "capql"):
            fronts = [front_of(r) for r in records if (r["task"], r["method"]) == (task, method)]
            if not fronts:
                continue
            w = fronts[0].preferences
            cosine = w.sum(1) / np.linalg.norm(w, axis=1) / np.sqrt(w.shape[1])
            inside = cosine >= np.cos(np.deg2rad(22.5))
            cells = [interval([float(f.utilities[part].mean()) for f in fronts], STYLE) for part in (inside, ~inside)]
            print(f"| {about['env']} | {NAMES[method]} | {' | '.join(cells)} |")
            corner = [float(f.points[w[:, 0] == 1][0, 0]) for f in fronts]
            print(f"  under (1, 0, …) the first reward returns {', '.join(f'{x:,.0f}' for x in corner)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peer", default="")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, for processes side by side with an OUT each")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    protocol = yaml.safe_load((HERE / "study_several.yaml").read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "results.jsonl"
    records = read_lines(lines)
    steps = protocol["full_steps" if options.full else "steps"]
    known = {(r["task"], r["method"], r["seed"], r["steps"]) for r in records}
    for task, method, seed in jobs(protocol, options.full):
        if options.seeds and seed not in options.seeds:
            continue
        if options.report_only or (task, method, seed, steps) in known or (method == "capql" and not options.peer):
            continue
        found = run(protocol, task, method, seed, steps, options.out, options.peer)
        records.append({"task": task, "method": method, "seed": seed, "steps": steps, **found})
        add_line(lines, records[-1])
        print(f"{task} {method} {seed}: {found['seconds'] / 60:.1f} minutes", flush=True)
    known_steps = [r for r in records if r["steps"] == steps]
    report(protocol, known_steps, options.out)
    report_cone(protocol, known_steps)


if __name__ == "__main__":
    main()
