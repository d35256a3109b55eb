"""The best of n samples by the critics: what becomes of the return, and of the critics' value, as n grows.

    python scripts/study_best_of_n.py [--jobs 2] [--full]

Protocol: scripts/study_best_of_n.yaml. What is done is kept, a line per policy, in docs/results/flows/best_of_n.jsonl
and not run again; --report-only makes the table and the picture.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from study_jobs import add_line, cell, parse_options, read_lines, write_between_marks

import balrl
from balrl.best_action import best_action
from balrl.conservative_objectives import conservative
from balrl.evaluation import bootstrap_interval, evaluate_policy
from balrl.random_stream import RandomStream
from balrl.report.figures import drawn
from balrl.rewards import expected_best_of_n, kl_of_best_of_n
from balrl.run.registry import load_dataset, make_env, reference_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "flows" / "best_of_n.jsonl"
TASK = "balrl/PointMaze-v0"
KEY = ("agent", "data", "seed")
COLOURS = ("#2f6f9f", "#c8553d", "#3a7d44")


@torch.no_grad()
def proxy_of(agent: Any, observations: torch.Tensor, protocol: Mapping[str, Any], objective: str) -> list[float]:
    """Return the expected largest conservative Q among n samples, for every n, averaged over states."""
    inputs = agent.normalizer(observations)
    pool = protocol["pool"]
    samples = agent.policy.sample(inputs, RandomStream(0), pool)[0].clamp(-1, 1)
    repeated = observations.expand(pool, *observations.shape)
    q = agent.q_values(repeated.flatten(0, 1), samples.flatten(0, 1)).unflatten(-1, (pool, -1))
    scores = conservative(q, objective)
    curves = [expected_best_of_n(scores[:, i], scores[:, i], protocol["counts"]) for i in range(len(observations))]
    spread = conservative(agent.q_values(observations, samples[0]), objective).std()
    mean = torch.stack(curves).mean(0)
    return [round(float(x), 4) for x in (mean - mean[0]) / spread]


def run(job: tuple[str, str, int], protocol: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Pre-train a policy, and return its curves."""
    torch.set_num_threads(1)
    name, task, seed = job
    about = protocol["data"][task]
    path = out / f"{name}-{task}-{seed}"
    shutil.rmtree(path, ignore_errors=True)
    settings = {**protocol["settings"], **about, "seed": seed}
    summary = balrl.train(balrl.load_config(f"{name}/point-maze", settings=settings), path).summary
    agent = balrl.load_agent(path, device="cpu")
    rows = np.random.default_rng(seed).integers(20_000, size=protocol["states"])
    observations = torch.from_numpy(load_dataset(about["dataset"], None).observations[rows]).float()
    record: dict[str, Any] = {"agent": name, "data": task, "seed": seed, "commit": summary["git_commit"]}
    record["mode"] = round(balrl.evaluate(agent, TASK, protocol["episodes"], env_kwargs=about["env_kwargs"]).score, 2)
    for objective in protocol["objectives"]:
        record[objective] = {
            "gold": [gold_of(agent, about["env_kwargs"], protocol, n, objective) for n in protocol["counts"]],
            "proxy": proxy_of(agent, observations, protocol, objective),
        }
    shutil.rmtree(path, ignore_errors=True)
    return record


def gold_of(agent: Any, env_kwargs: Mapping[str, Any], protocol: Mapping[str, Any], n: int, objective: str) -> float:
    """Return the score of acting with the best of n samples; one sample is a sample, not the mode."""
    worlds = make_env(TASK, protocol["episodes"], torch.device("cpu"), dict(env_kwargs))
    stream = RandomStream(n)
    found = evaluate_policy(
        lambda observations: best_action(agent, observations, n, objective, stream=stream),
        worlds,
        protocol["episodes"],
        10_000,
        reference=reference_of(TASK, worlds),
    )
    worlds.close()
    return round(found.score, 2)


def report(protocol: Mapping[str, Any], records: list[dict[str, Any]]) -> None:
    """Write the table and the picture."""
    counts = protocol["counts"]
    lines = [
        f"| data | policy | by | mode | {' | '.join(f'n = {n}' for n in counts)} |",
        f"| {' | '.join(['---'] * (4 + len(counts)))} |",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in sorted(records, key=lambda r: (r["data"], r["agent"])):
        groups.setdefault((r["data"], r["agent"]), []).append(r)
    for (data, name), rows in groups.items():
        for objective in protocol["objectives"]:
            golds = zip(*(r[objective]["gold"] for r in rows), strict=True)
            cells = " | ".join(cell(list(column)) for column in golds)
            lines.append(f"| {data} | {name} | {objective} | {cell([r['mode'] for r in rows])} | {cells} |")
    seeds = len({r["seed"] for r in records})
    lines += ["", f"{seeds} seeds; commits {', '.join(sorted({r['commit'] for r in records}))}."]
    write_between_marks(RESULTS.parent.parent / "flows.md", lines, "best-of-n")
    draw(protocol, groups)


def draw(protocol: Mapping[str, Any], groups: Mapping[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Draw gold and proxy against the root of the divergence, for the minimum of the critics."""
    x = kl_of_best_of_n(protocol["counts"]).sqrt().numpy()
    tasks = list(dict.fromkeys(data for data, _ in groups))
    with drawn(RESULTS.parent / "best_of_n.png", 5.5 * len(tasks), 7.5) as figure:
        axes = figure.subplots(2, len(tasks), sharex=True, squeeze=False)
        for (data, name), rows in groups.items():
            colour, column = COLOURS[protocol["agents"].index(name)], tasks.index(data)
            for axis, kind in zip(axes[:, column], ("gold", "proxy"), strict=True):
                values = np.array([r["wco"][kind] for r in rows])
                bounds = np.array([bootstrap_interval([list(v)], np.mean) for v in values.T])
                axis.plot(x, values.mean(0), "o-", color=colour, label=name, markersize=4)
                axis.fill_between(x, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.15, linewidth=0)
        for column, data in enumerate(tasks):
            axes[0, column].set(title=data, ylabel="gold: normalised score")
            axes[1, column].set(xlabel="√(log n − (n − 1)/n), nats", ylabel="proxy: gain in min Q, standard deviations")
        axes[0, 0].legend(frameon=False)
        for axis in axes.flat:
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    protocol = yaml.safe_load((HERE / "study_best_of_n.yaml").read_text())
    options = parse_options(__doc__, "runs/best_of_n", list(protocol["data"]), "not needed")
    done = {tuple(record[key] for key in KEY) for record in read_lines(RESULTS)}
    seeds = protocol["full_seeds"] if options.full else protocol["seeds"]
    jobs = [(agent, data, seed) for seed in seeds for data in options.parts for agent in protocol["agents"]]
    RESULTS.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as workers:
        missing = [] if options.report_only else [job for job in jobs if job not in done]
        waiting = {workers.submit(run, job, protocol, options.out): job for job in missing}
        for future in as_completed(waiting):
            add_line(RESULTS, future.result())
            print(*waiting[future], flush=True)
    report(protocol, read_lines(RESULTS))


if __name__ == "__main__":
    main()
