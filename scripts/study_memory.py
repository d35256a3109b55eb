"""Memory: a recurrent agent beside a flat one where velocities are hidden, and trading with a rule to imitate.

Usage: python scripts/study_memory.py OUT [--seeds 0 1] [--tasks pendulum] [--steps N]; goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from study_jobs import add_line, read_lines, train_through

import balrl
from balrl.agents import StateAdaptiveBalance
from balrl.envs import TradingVectorEnv
from balrl.envs.trading_players import Best, DualThrust, play
from balrl.studies.report import interval

STYLE = ",.4g"
"""Of numbers in tables."""
HERE = Path(__file__).parent
EVALUATION_SEED = 10_000
PLAYERS = {"rule": DualThrust, "best": Best, "oracle": lambda: Best(sees_regime=True)}


def jobs(protocol: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield task, method and seed, seed after seed, so that what is there is comparable at any time."""
    for seed in protocol["seeds"]:
        for task, about in protocol["tasks"].items():
            for method in about["methods"]:
                yield task, method, seed


def run(protocol: dict[str, Any], task: str, method: str, seed: int, steps: int, path: Path) -> dict[str, Any]:
    """Train one method once, or go on with it, and play it."""
    settings = dict(protocol["tasks"][task]["methods"][method])
    preset = settings.pop("preset")
    config = balrl.load_config(preset, settings={**protocol["settings"], **settings, "seed": seed})
    config = config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"steps": steps - config.warmup.steps})}
    )
    began = time.perf_counter()
    train_through(path, config)
    seconds = time.perf_counter() - began
    balance = getattr(config.agent, "balance", None)
    ends = [balance.minimum, balance.maximum] if isinstance(balance, StateAdaptiveBalance) else []
    returns = {str(end or "own"): returns_of(path, protocol["episodes"], end) for end in (None, *ends)}
    return {"returns": returns["own"], "members": {k: v for k, v in returns.items() if k != "own"}, "seconds": seconds}


def returns_of(path: Path, episodes: int, balance: float | None) -> list[float]:
    """Play a trained run's policy, or a member of its family."""
    found = balrl.evaluate(
        path, episodes=episodes, num_envs=episodes, seed=EVALUATION_SEED, device="cpu", balance=balance
    )
    return list(found.returns)


def played(protocol: dict[str, Any], name: str) -> dict[str, Any]:
    """Play who needs no training, in the worlds of the evaluations."""
    rewards = play(PLAYERS[name](), TradingVectorEnv(protocol["episodes"]), EVALUATION_SEED)["rewards"]
    return {"returns": rewards.sum(1).tolist(), "members": {}, "seconds": 0.0}


def report(protocol: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("| task | method | seeds | utility | members of the family | minutes |")
    print("|---|---|---|---|---|---|")
    for task, about in protocol["tasks"].items():
        for method in (*about["methods"], *(protocol["players"] if task == "trading" else ())):
            mine = [r for r in records if (r["task"], r["method"]) == (task, method)]
            if not mine:
                continue
            members = [
                f"{end}: {interval([float(np.mean(r['members'][end])) for r in mine], STYLE)}"
                for end in mine[0]["members"]
            ]
            utility = interval([float(np.mean(r["returns"])) for r in mine], STYLE)
            minutes = np.mean([r["seconds"] for r in mine]) / 60
            print(f"| {task} | {method} | {len(mine)} | {utility} | {'; '.join(members) or '—'} | {minutes:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, for processes side by side with an OUT each")
    parser.add_argument("--tasks", nargs="+", help="only these")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--steps", type=int, help="instead of each task's, to try it out")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    protocol = yaml.safe_load((HERE / "study_memory.yaml").read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "results.jsonl"
    records = read_lines(lines)

    def keep(found: dict[str, Any], **about: Any) -> None:
        records.append({**about, **found})
        add_line(lines, records[-1])
        print(" ".join(str(x) for x in about.values()), f"{found['seconds'] / 60:.1f} minutes", flush=True)

    known = {(r["task"], r["method"], r["seed"], r["steps"]) for r in records}
    chosen = {task: options.steps or about["steps"] for task, about in protocol["tasks"].items()}
    if not options.report_only and "trading" in (options.tasks or chosen):
        for name in protocol["players"]:
            if ("trading", name, 0, chosen["trading"]) not in known:
                keep(played(protocol, name), task="trading", method=name, seed=0, steps=chosen["trading"])
    for task, method, seed in jobs(protocol):
        left_out = (
            task not in (options.tasks or chosen)
            or seed not in (options.seeds or protocol["seeds"])
            or method not in (options.methods or [method])
        )
        if options.report_only or left_out or (task, method, seed, chosen[task]) in known:
            continue
        path = options.out / f"{task}-{method}-{seed}-{chosen[task]}"
        keep(
            run(protocol, task, method, seed, chosen[task], path),
            task=task,
            method=method,
            seed=seed,
            steps=chosen[task],
        )
    report(protocol, [r for r in records if r["steps"] == chosen[r["task"]]])


if __name__ == "__main__":
    main()
