"""The verbs that look at runs: evaluate, plot, compare, export."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.cli.arguments import non_negative, number, positive, weights
from balrl.cli.console import make_console
from balrl.errors import check_target

if TYPE_CHECKING:
    from balrl.report.runs import Run


def add_run_verbs(verbs: Any) -> None:
    """Add the verbs of this module to the command line's."""
    evaluate = verbs.add_parser("evaluate", help="score a run's or a checkpoint's policy")
    evaluate.add_argument("path", metavar="RUN_OR_CHECKPOINT", type=Path)
    evaluate.add_argument("--env", help="Gymnasium id; default: the run's own task")
    evaluate.add_argument("--episodes", type=positive, default=20, help="default: 20")
    evaluate.add_argument("--seed", type=non_negative, default=10_000, help="of the environments; default: 10000")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    evaluate.add_argument("--balance", type=number, help="a member of the policy's family instead of its own choice")
    evaluate.add_argument(
        "--preference",
        type=weights,
        metavar="A,B,…",
        help="over several rewards; default: several, spread evenly (balrl front draws them)",
    )
    evaluate.add_argument(
        "--best-of", type=positive, default=1, metavar="N", help="act with the best of N samples by the critics"
    )
    evaluate.add_argument(
        "--objective", default="wco", help="of the critics' values, for --best-of; default: wco, their minimum"
    )
    evaluate.add_argument(
        "--offline", action="store_true", help="estimate it from logged data instead of playing: critics, fitted Q"
    )
    evaluate.add_argument("--dataset", help="for --offline; default: the run's own")
    evaluate.add_argument(
        "--offline-updates", type=non_negative, default=5_000, help="of fitted Q, for --offline; 0: none; default: 5000"
    )
    evaluate.add_argument("--video", type=Path, metavar="FILE.mp4|gif", help="also film one episode")
    evaluate.set_defaults(run=_evaluate)

    plot = verbs.add_parser("plot", help="draw runs aligned at the switch: score, Q, TD error, KL")
    plot.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs")
    plot.add_argument("--out", type=Path, help="default: RUN/switch.png, or switch.png for several")
    plot.set_defaults(run=_plot)

    compare = verbs.add_parser("compare", help="compare methods over seeds: IQM, intervals, probability of improvement")
    compare.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs")
    compare.add_argument(
        "--metric", choices=("final", "best", "drop", "regret"), default="final", help="default: final"
    )
    compare.add_argument("--task", action="append", default=[], help="only this task; repeat for several; default: all")
    compare.add_argument(
        "--out",
        type=Path,
        action="append",
        metavar="FILE.png|tex|csv",
        help="a picture, a table for LaTeX, or numbers; repeat for several; default: compare.png",
    )
    compare.set_defaults(run=_compare)

    export = verbs.add_parser("export", help="write a policy for stable-baselines3, as TorchScript or as ONNX")
    export.add_argument("path", metavar="RUN_OR_CHECKPOINT", type=Path)
    export.add_argument(
        "out",
        metavar="OUT.zip|pt|onnx",
        type=Path,
        help=".zip: stable-baselines3's SAC, from SAC, CQL, Cal-QL or WSRL; .pt: TorchScript; .onnx: ONNX",
    )
    export.add_argument("--balance", type=number, help="this member of the policy's family")
    export.add_argument(
        "--preference",
        type=weights,
        metavar="A,B,…",
        help="over several rewards; default: the agent's own, equal weights",
    )
    export.set_defaults(run=_export)


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.report.tables import evaluation_table
    from balrl.run.trained import evaluate, record_video
    from balrl.video import check_film

    if options.offline:
        from balrl.report.tables import offline_table
        from balrl.run.trained import evaluate_offline

        found = evaluate_offline(
            options.path,
            options.dataset,
            device=options.device,
            balance=options.balance,
            updates=options.offline_updates,
        )
        make_console().print(offline_table(found))
        return
    if options.video is not None:
        check_film(options.video)

    result = evaluate(
        options.path,
        options.env,
        episodes=options.episodes,
        seed=options.seed,
        device=options.device,
        balance=options.balance,
        best_of=options.best_of,
        objective=options.objective,
        preference=options.preference,
    )
    make_console().print(evaluation_table(result))
    if options.video is not None:
        task = {name: getattr(options, name) for name in ("env", "seed", "device", "balance", "preference")}
        steps = record_video(options.path, options.video, **task)
        print(f"wrote {options.video}: {steps} steps")


def _plot(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.report.runs import labels, read_runs
    from balrl.report.switch_plot import draw_switch

    runs = read_runs(options.runs)
    named = {}
    for method, group in labels(runs).items():
        for run in group:
            name = f"{method}, seed {run.config['seed']}" if len(runs) > 1 else method
            named[name if name not in named else f"{name} ({run.path.name})"] = run
    default = runs[0].path / "switch.png" if len(runs) == 1 else Path("switch.png")
    target = check_target(options.out or default, (".png",))
    tasks = ", ".join(dict.fromkeys(run.task for run in runs))
    draw_switch(named, target, tasks)
    print(f"wrote {target}")


def _compare(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.report.runs import read_runs

    targets = [check_target(path, (".png", ".tex", ".csv")) for path in options.out or [Path("compare.png")]]
    write_comparison(read_runs(options.runs), options.metric, options.task, targets)


def write_comparison(runs: Sequence[Run], metric: str, tasks: Sequence[str], targets: Sequence[Path]) -> None:
    """Print the comparison of runs, and write it into files."""
    from balrl.checkpoint import write_text
    from balrl.report.compare import compare_runs
    from balrl.report.compare_plot import draw_comparison
    from balrl.report.compare_tables import comparison_csv, comparison_latex, comparison_table

    blocks = compare_runs(runs, metric, tasks)
    for block in blocks:
        ends = {run.evaluations[-1]["env_steps"] for runs in block.groups.values() for run in runs}
        if len(ends) > 1:
            print(f"note: on {block.title} the runs end after {min(ends):,} to {max(ends):,} environment steps")
    for run in dict.fromkeys(r.path for b in blocks for runs in b.groups.values() for r in runs if not r.finished):
        print(f"note: '{run}' is not finished; its score so far is in the table")
    make_console().print(comparison_table(blocks, metric))
    for target in targets:
        if target.suffix == ".png":
            draw_comparison(blocks, metric, target)
        else:
            text = comparison_latex if target.suffix == ".tex" else comparison_csv
            write_text(target, text(blocks, metric))
        print(f"wrote {target}")


def _export(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.run.plain_policy import write_plain_policy
    from balrl.run.sb3 import write_sac_zip
    from balrl.run.trained import load_agent

    target = check_target(options.out, (".zip", ".pt", ".onnx"))
    agent = load_agent(options.path, "cpu")
    if options.preference is not None:
        agent.prefer(options.preference)
    if target.suffix == ".zip":
        for line in write_sac_zip(agent, target, options.balance):
            print(line)
        print(f"wrote {target}; load it with stable_baselines3.SAC.load")
        return
    write_plain_policy(agent, target, options.balance)
    chunk = agent.spaces.chunk_size
    kind = "actions" if chunk == 1 else f"{chunk} steps' actions, one behind another"
    how = "torch.jit.load" if target.suffix == ".pt" else "onnxruntime.InferenceSession"
    print(f"wrote {target}: observations [B, {agent.spaces.observation_dim}] to {kind}; load it with {how}")
