"""Is the last checkpoint of offline training worth having, and which offline signal says when to stop?

    python scripts/study_robust.py --data DIR [--jobs 2] [--full]

DIR holds the three mixed files. Protocol: scripts/study_robust.yaml. What is done is kept, line by line, in
docs/results/balances/robust.jsonl and not run again; --full takes ten seeds. --report-only makes the tables.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import spearmanr
from study_jobs import add_line, cell, parse_options, read_lines, write_between_marks

import balrl
from balrl.batch import Batch
from balrl.data.prepare import reward_transform, scale_actions, to_replay
from balrl.evaluation import evaluate_policy
from balrl.run.registry import load_dataset, make_env
from balrl.spaces import SpaceAdapter
from balrl.watch.callbacks import Callback

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "balances" / "robust.jsonl"
SIGNALS = ("likelihood", "td_error", "q_policy", "q_spread", "advantage")
"""Measured on held-out episodes; larger is taken for better but for the errors ``td_error`` and ``q_spread``."""
ADVISED = "iql standardised, dropout 0.1"
"""What `balrl advise` names on these files, with averaged weights: the preset iql/robust."""
PRESETS = ("iql", "iql-ddpg-bc standardised", "td3bc", "rebrac")
SMALLER = ("td_error", "q_spread")


def split(data: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Return most of the episodes, and a share of them that is held out."""
    rng = np.random.default_rng(seed)
    slices = data.episode_slices
    held = set(rng.permutation(len(slices))[: max(1, round(share * len(slices)))].tolist())
    rows = np.zeros(len(data), bool)
    for index in held:
        rows[slices[index]] = True
    return data.select(~rows), data.select(rows)


def measure(agent: Any, batch: Any) -> dict[str, float]:
    """Return the signals on a held-out batch, of the newest weights."""
    inputs = agent.normalizer(batch.observations)
    with torch.no_grad():
        inputs = agent.balance.condition(inputs, agent.balance.mode(inputs))
        mode = agent.policy.mode(inputs).clamp(-1, 1)
        q, of_data = agent.q_values(batch.observations, mode), agent.q_values(batch.observations, batch.actions)
        error = of_data.mean(0) - agent.td_target(batch)
        return {
            "likelihood": -float((mode - batch.actions).square().sum(-1).mean()),
            "td_error": float(error.square().mean()),
            "q_policy": float(q.amin(0).mean()),
            "q_spread": float(q.std(0).mean()),
            "advantage": float((q.amin(0) - of_data.amin(0)).mean()),
        }


class Beside(Callback):
    """Evaluates the newest weights where the run evaluates their average, and measures the signals.

    Args:
        worlds: for it.
        config: of the run.
        held: episodes that it does not see.
    """

    def __init__(self, worlds: Any, config: Any, held: Batch) -> None:
        self.worlds, self.config, self.held = worlds, config, held
        self.records: list[dict[str, float]] = []

    def on_evaluation(self, status: Any, evaluation: Mapping[str, Any]) -> None:
        agent, c = status.agent, self.config.evaluation
        average, agent.averaged_policy = agent.averaged_policy, None
        newest = evaluate_policy(lambda o: agent.act(o, deterministic=True), self.worlds, c.episodes, c.seed)
        agent.averaged_policy = average
        means = {"newest": round(newest.mean_return, 2), "averaged": round(evaluation["return_mean"], 2)}
        self.records.append({"updates": status.updates, **means, **measure(agent, self.held)})


def run(job: tuple[str, str, int], protocol: Mapping[str, Any], data: Path, out: Path) -> dict[str, Any]:
    """Train once; return what is kept."""
    torch.set_num_threads(1)
    variant, task, seed = job
    about = protocol["datasets"][task]
    settings = {**protocol["variants"][variant], **protocol["settings"]}
    preset = settings.pop("preset")
    train, held = split(load_dataset(str(data / about["file"]), None), protocol["held_out"], seed)
    own = {"env": about["env"], "seed": seed, "agent.policy_average": protocol["average"]}
    config = balrl.load_config(preset, settings={**settings, **own})
    worlds = make_env(about["env"], config.evaluation.num_envs, torch.device("cpu"))
    spaces = SpaceAdapter(worlds.single_observation_space, worlds.single_action_space)
    rows = to_replay(scale_actions(held, spaces, config.data.action_limit), reward_transform(config.data, train))
    beside = Beside(worlds, config, rows.gather(torch.arange(len(rows))))
    path = out / f"{variant}-{task}-{seed}".replace(" ", "-").replace(",", "")
    shutil.rmtree(path, ignore_errors=True)
    result = balrl.train(config, path, dataset=train, callbacks=[beside])
    worlds.close()
    return {
        "variant": variant,
        "task": task,
        "seed": seed,
        "commit": result.summary["git_commit"],
        "seconds": round(sum(result.summary["wall_seconds"].values()), 1),
        "records": beside.records[1:],
    }


def report() -> None:
    """Write the tables of everything that is kept."""
    records = read_lines(RESULTS)
    lines = [
        "| data | variant | seeds | best, newest weights | last | last / best | best, averaged | last | last / best |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task, variant in dict.fromkeys((r["task"], r["variant"]) for r in sorted(records, key=lambda r: r["task"])):
        rows = [r["records"] for r in records if (r["task"], r["variant"]) == (task, variant)]
        cells = []
        for weights in ("newest", "averaged"):
            best, last = ([pick(x[weights] for x in row) for row in rows] for pick in (max, lambda x: list(x)[-1]))
            shares = [100 * one / other for one, other in zip(last, best, strict=True)]
            cells += [cell(best), cell(last), f"{cell(shares)} %"]
        lines.append(f"| {task} | {variant} | {len(rows)} | {' | '.join(cells)} |")
    lines += ["", *by_variant(records), "", *advice(records)]
    lines += [
        "",
        "| signal | rank correlation with the return | return where it is best, of the best |",
        "| --- | --- | --- |",
    ]
    for signal in SIGNALS:
        sign = -1 if signal in SMALLER else 1
        found, reached = [], []
        for row in (r["records"] for r in records):
            values, returns = [sign * x[signal] for x in row], [x["newest"] for x in row]
            found.append(float(spearmanr(values, returns).statistic))
            reached.append(100 * returns[int(np.argmax(values))] / max(returns))
        lines.append(f"| {signal} | {np.mean(found):+.2f} | {cell(reached)} % |")
    last = [100 * r["records"][-1]["newest"] / max(x["newest"] for x in r["records"]) for r in records]
    lines.append(f"| (the last one) | | {cell(last)} % |")
    hours = sum(r["seconds"] for r in records) / 3600
    lines += [
        "",
        f"{len(records)} runs, {hours:.1f} core-hours; commits {', '.join(sorted({r['commit'] for r in records}))}.",
    ]
    write_between_marks(RESULTS.parents[1] / "balances.md", lines, "robust")


def by_variant(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of what each variant's last checkpoints are worth: of their own best, and of all variants'."""
    top = {r["task"]: 0.0 for r in records}
    for r in records:
        top[r["task"]] = max(top[r["task"]], *(r["records"][-1][weights] for weights in ("newest", "averaged")))
    lines = [
        "| variant | runs | last within 15 % of its own best, newest weights | averaged "
        "| last, of the best last of all on that data, newest | averaged |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for variant in dict.fromkeys(r["variant"] for r in records):
        rows = [r for r in records if r["variant"] == variant]
        cells = []
        for weights in ("newest", "averaged"):
            held = sum(r["records"][-1][weights] >= 0.85 * max(x[weights] for x in r["records"]) for r in rows)
            cells.append(f"{held} of {len(rows)}")
        for weights in ("newest", "averaged"):
            cells.append(f"{cell([100 * r['records'][-1][weights] / top[r['task']] for r in rows])} %")
        lines.append(f"| {variant} | {len(rows)} | {' | '.join(cells)} |")
    return lines


def advice(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of `balrl advise` against the presets: last return of what it names, and their median."""
    lines = ["| data | advised | return at the end | the presets' | their median |", "| --- | --- | --- | --- | --- |"]
    for task in dict.fromkeys(r["task"] for r in records):
        last = {r["variant"]: r["records"][-1] for r in records if r["task"] == task and r["seed"] == 0}
        if ADVISED in last and all(preset in last for preset in PRESETS):
            found = [last[preset]["newest"] for preset in PRESETS]
            shown = ", ".join(f"{preset} {value:.0f}" for preset, value in zip(PRESETS, found, strict=True))
            own = last[ADVISED]["averaged"]
            lines.append(f"| {task} | {ADVISED}, averaged | {own:.0f} | {shown} | {np.median(found):.0f} |")
    return lines


def main() -> None:
    options = parse_options(__doc__, "runs/robust", ["runs"], "directory with the three mixed files")
    protocol = yaml.safe_load((HERE / "study_robust.yaml").read_text())
    seeds = range(10) if options.full else protocol["seeds"]
    done = {(r["variant"], r["task"], r["seed"]) for r in read_lines(RESULTS)}
    jobs = [(v, t, s) for s in seeds for t in protocol["datasets"] for v in protocol["variants"]]
    left = [] if options.report_only else [job for job in jobs if job not in done]
    RESULTS.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, job, protocol, options.data, options.out) for job in left]):
            record = future.result()
            add_line(RESULTS, record)
            print(record["variant"], record["task"], record["seed"], f"{record['seconds']:.0f} s", flush=True)
    report()


if __name__ == "__main__":
    main()
