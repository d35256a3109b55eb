"""Return-conditioned agents beside IQL and the imitation of the best episodes, on mixed data, at equal core time.

Usage: python scripts/study_sequences.py OUT [--data FOLDER] [--seeds 0 1] [--report-only]; goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from study_jobs import add_line, read_lines, train_through

import balrl
from balrl.agents.return_conditioned import ReturnConditioned
from balrl.studies.report import interval

STYLE = ",.4g"
"""Of numbers in tables."""
HERE = Path(__file__).parent
EVALUATION_SEED = 10_000
Record = dict[str, Any]


def jobs(protocol: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield dataset, method and seed, seed after seed, so that what is there is comparable at any time."""
    for seed in protocol["seeds"]:
        for dataset in protocol["datasets"]:
            for method in protocol["methods"]:
                yield dataset, method, seed


def run(protocol: Mapping[str, Any], dataset: str, method: str, seed: int, out: Path, data: Path) -> Record:
    """Train a method once, unless another has, and play it for every return that is asked for."""
    about = dict(protocol["methods"][method])
    play, trained_as = about.pop("play", {}), about.pop("trained_as", method)
    about = about or dict(protocol["methods"][trained_as])
    path, file = out / f"{dataset}-{trained_as.replace('%', '')}-{seed}", data / f"{dataset}.hdf5"
    env = protocol["datasets"][dataset]
    given = {"env": env, "dataset": str(file), "seed": seed}
    config = balrl.load_config(about.pop("preset"), settings={**protocol["settings"], **about, **given})
    began = time.process_time()
    train_through(path, config)
    seconds = time.process_time() - began
    agent = balrl.load_agent(path)
    agent.config = agent.config.model_copy(update=play)
    best = float(balrl.load_dataset(str(file)).episode_returns.max())
    played = []
    for share in protocol["shares"] if isinstance(agent, ReturnConditioned) else [1.0]:
        if isinstance(agent, ReturnConditioned):
            agent.aim(share * best)
        count = protocol["episodes"]
        result = balrl.evaluate(agent, env, episodes=count, num_envs=count, seed=EVALUATION_SEED, device="cpu")
        played.append({"share": share, "asked": share * best, "return": result.mean_return, "score": result.score})
    return {"seconds": seconds, "played": played}


def report(protocol: Mapping[str, Any], records: list[Record]) -> None:
    """Print scores when the best in the data is asked for, and what is returned for every share of it."""
    shares = protocol["shares"]
    asked = " | ".join(f"return for {share:.0%} of the best" for share in shares)
    print(f"| data | method | seeds | score | {asked} | minutes |\n|{'---|' * (len(shares) + 5)}")
    for dataset in protocol["datasets"]:
        for method in protocol["methods"]:
            mine = [r for r in records if (r["dataset"], r["method"]) == (dataset, method)]
            if not mine:
                continue
            cells = [
                interval([p["return"] for r in mine for p in r["played"] if p["share"] == s], STYLE) for s in shares
            ]
            score = interval([p["score"] for r in mine for p in r["played"] if p["share"] == 1.0], STYLE)
            minutes = np.mean([r["seconds"] for r in mine]) / 60
            print(f"| {dataset} | {method} | {len(mine)} | {score} | {' | '.join(cells)} | {minutes:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--protocol", type=Path, default=HERE / "study_sequences.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, for processes side by side with an OUT each")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    protocol = yaml.safe_load(options.protocol.read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "results.jsonl"
    records = read_lines(lines)
    known = {(r["dataset"], r["method"], r["seed"]) for r in records}
    for dataset, method, seed in jobs(protocol):
        if options.report_only or (dataset, method, seed) in known or (options.seeds and seed not in options.seeds):
            continue
        found = run(protocol, dataset, method, seed, options.out, options.data)
        records.append({"dataset": dataset, "method": method, "seed": seed, **found})
        add_line(lines, records[-1])
        print(f"{dataset} {method} {seed}: {found['seconds'] / 60:.1f} minutes", flush=True)
    report(protocol, records)


if __name__ == "__main__":
    main()
