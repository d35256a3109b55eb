"""The command line: ``balrl VERB``. Imports nothing heavy until a verb runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from balrl import __version__
from balrl.cli.advise import add_advise_verb
from balrl.cli.bench import add_bench_verbs
from balrl.cli.console import forgive_characters, silence
from balrl.cli.data import add_data_verbs
from balrl.cli.family import add_family_verb
from balrl.cli.front import add_front_verb
from balrl.cli.report import add_report_verb
from balrl.cli.reward import add_reward_verbs
from balrl.cli.runs import add_run_verbs
from balrl.cli.sweep import add_sweep_verb
from balrl.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_MISTAKE, EnvironmentFault, UserError

DESCRIPTION = "From logged experience to a policy, and on to a better one online, without collapse."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit code.

    0; 2 for the user's mistake, 3 for divergence, 4 for a faulty environment, 130 for an interruption.
    """
    forgive_characters()
    parser = _parser()
    imported, others = _imports(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser.parse_known_args(others)
    options.imported = imported
    if rest and options.verb not in ("train", "sweep"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if imported:
            from balrl.run.imports import import_modules

            import_modules(imported)
        return int(options.run(options, rest) or 0)
    except UserError as error:
        print(f"balrl: {error}", file=sys.stderr)
        return EXIT_ENVIRONMENT if isinstance(error, EnvironmentFault) else EXIT_MISTAKE
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        print(f"balrl: cannot read or write: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:
        silence()
        return 0
    except KeyboardInterrupt:
        print("balrl: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the modules that ``--import`` names, wherever it stands, and the other arguments."""
    parser = argparse.ArgumentParser(prog="balrl", add_help=False, allow_abbrev=False)
    parser.add_argument("--import", dest="imported", action="append", default=[])
    options, others = parser.parse_known_args(arguments)
    return options.imported, others


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="balrl", description=DESCRIPTION)
    parser.add_argument(
        "--import", metavar="MODULE", help="with any verb, import a module of yours first, such as one with your task"
    )
    parser.add_argument("--version", action="version", version=f"balrl {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = verbs.add_parser(
        "train", help="train a policy: pretrain → warm-up → fine-tune", add_help=False, allow_abbrev=False
    )
    train.set_defaults(run=_train)

    add_run_verbs(verbs)
    add_report_verb(verbs)
    add_sweep_verb(verbs)
    add_family_verb(verbs)
    add_front_verb(verbs)
    add_data_verbs(verbs)
    add_advise_verb(verbs)
    add_reward_verbs(verbs)
    add_bench_verbs(verbs)

    config = verbs.add_parser("config", help="look at presets").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    show = config.add_parser("show", help="print a preset, with the sources of its values")
    show.add_argument("preset", metavar="PRESET")
    show.set_defaults(run=_config_show)
    config.add_parser("list", help="name the presets").set_defaults(run=_config_list)
    return parser


def _train(options: argparse.Namespace, arguments: list[str]) -> int:
    from balrl.cli.train import run

    return run(arguments, options.imported)


def _config_show(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.run.presets import preset_text

    print(preset_text(options.preset), end="")


def _config_list(_: argparse.Namespace, __: list[str]) -> None:
    from balrl.run.presets import preset_names

    print("\n".join(preset_names()))
