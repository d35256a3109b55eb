"""The command line: ``balrl VERB``. Imports nothing heavy until a verb runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balrl import __version__
from balrl.errors import EXIT_INTERRUPTED, EXIT_MISTAKE, UserError

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = "From logged experience to a policy, and on to a better one online, without collapse."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit code: 0, 2 for the user's mistake, 3 for divergence, 130 for an interruption."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return int(options.run(options, rest) or 0)
    except UserError as error:
        print(f"balrl: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("balrl: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="balrl", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"balrl {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = verbs.add_parser(
        "train", help="train a policy: pretrain → warm-up → fine-tune", add_help=False, allow_abbrev=False
    )
    train.set_defaults(run=_train)

    evaluate = verbs.add_parser("evaluate", help="score a run's or a checkpoint's policy")
    evaluate.add_argument("path", metavar="RUN_OR_CHECKPOINT", type=Path)
    evaluate.add_argument("--env", help="Gymnasium id; default: the run's own task")
    evaluate.add_argument("--episodes", type=_positive, default=20, help="default: 20")
    evaluate.add_argument("--seed", type=_non_negative, default=10_000, help="of the environments; default: 10000")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    evaluate.add_argument("--balance", type=float, help="a member of the policy's family instead of its own choice")
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
    compare.add_argument("--out", type=Path, help="of the picture; default: compare.png")
    compare.set_defaults(run=_compare)

    data = verbs.add_parser("data", help="look at a dataset").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    for action, text in (("info", "counts, returns, lengths, ranges"), ("check", "find what is broken")):
        command = data.add_parser(action, help=text)
        command.add_argument("file", metavar="FILE", help="D4RL HDF5 file, or point-maze-mixed")
        command.add_argument(
            "--env", help="the task, to check action bounds and the step limit; default: the one the file names"
        )
        command.set_defaults(run=_data_info if action == "info" else _data_check)

    config = verbs.add_parser("config", help="look at presets").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    show = config.add_parser("show", help="print a preset, with the sources of its values")
    show.add_argument("preset", metavar="PRESET")
    show.set_defaults(run=_config_show)
    config.add_parser("list", help="name the presets").set_defaults(run=_config_list)
    return parser


def _train(_: argparse.Namespace, arguments: list[str]) -> int:
    from balrl.cli_train import run

    return run(arguments)


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli_runs import evaluate

    evaluate(options)


def _plot(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli_runs import plot

    plot(options)


def _compare(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli_runs import compare

    compare(options)


def _data_info(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.data.inspect import describe
    from balrl.report.tables import dataset_table

    dataset, context = _load_for_inspection(options)
    _console().print(dataset_table(dataset, describe(dataset, context)))


def _data_check(options: argparse.Namespace, _: list[str]) -> int:
    from balrl.data.inspect import problems

    dataset, context = _load_for_inspection(options)
    found = problems(dataset, context)
    for problem in found:
        print(problem)
    print(f"{len(dataset):,} transitions checked: " + (f"{len(found)} problems" if found else "nothing found"))
    return 1 if found else 0


def _load_for_inspection(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from balrl.build import inspection_context, load_dataset

    context = inspection_context(options.env)
    dataset = load_dataset(options.file, context.max_episode_steps)
    if options.env is None and dataset.env_id is not None:
        try:
            context = inspection_context(dataset.env_id)
        except UserError as error:
            print(f"note: action bounds and step limit are not checked: {error}", file=sys.stderr)
    return dataset, context


def _config_show(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.presets import preset_text

    print(preset_text(options.preset), end="")


def _config_list(_: argparse.Namespace, __: list[str]) -> None:
    from balrl.presets import preset_names

    print("\n".join(preset_names()))


def _console() -> Console:
    from rich.console import Console

    return Console()


def _positive(text: str) -> int:
    return _at_least(1, text)


def _non_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(low: int, text: str) -> int:
    if not text.lstrip("-").isdigit() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {low}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
