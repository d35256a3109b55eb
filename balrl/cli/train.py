"""``balrl train``: settings from the command line over a preset or a file."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from balrl.errors import EXIT_DIVERGED, EXIT_INTERRUPTED, UserError

if TYPE_CHECKING:
    from balrl.run.start_and_resume import RunResult
    from balrl.watch.display import RichDisplay

USAGE = """balrl train --preset PRESET [--dataset FILE] [--env ID] [KEY=VALUE | --KEY VALUE …]
       balrl train --config FILE [KEY=VALUE …]
       balrl train --preset PRESET --seeds 0:8 [--vary KEY=VALUE,VALUE,… …]
       balrl train --resume RUN_DIR
       balrl train --preset PRESET init.checkpoint=RUN_OR_CHECKPOINT
       balrl train --preset PRESET --help

--import MODULE, anywhere and as often as needed, imports a module of yours first, such as one that registers a task;
the current folder is importable then."""


def run(arguments: Sequence[str], imported: Sequence[str] = ()) -> int:
    """Parse the arguments of ``balrl train`` and train; `imported` names the modules of ``--import``."""
    parser = argparse.ArgumentParser(prog="balrl train", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", help="one of `balrl config list`")
    parser.add_argument("--config", type=Path, help="a YAML file instead of a preset")
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with an interrupted run")
    parser.add_argument("--run-dir", type=Path, help="default: runs/<method>-<task>-s<seed>-<time>")
    parser.add_argument("--seeds", help="train a population: 0:8 for 0 to 7, or 0,3,11")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="and these numbers of the agent, each with each",
    )
    parser.add_argument(
        "--callback",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="a balrl.Callback, or a class of one, that is called while the run goes on",
    )
    parser.add_argument(
        "--on-divergence", choices=("warn", "stop", "rollback"), help="what to do when the watchdog sees something"
    )
    parser.add_argument("-h", "--help", action="store_true", help="with a preset: every setting and its value")
    options, rest = parser.parse_known_args(arguments)
    if options.help:
        parser.print_help()
        _print_settings(options.preset, options.config, parse_settings(rest))
        return 0
    settings: dict[str, Any] = parse_settings(rest)
    if options.on_divergence:
        settings["watchdog.on_divergence"] = options.on_divergence

    from balrl.api import train, train_population
    from balrl.cli.console import make_console
    from balrl.run.imports import load_object
    from balrl.run.inputs import take
    from balrl.run.members import member_configs, parse_seeds, parse_vary
    from balrl.run.presets import load_config
    from balrl.run.start_and_resume import default_run_dir
    from balrl.watch.display import RichDisplay

    callbacks = [load_object(path, "--callback") for path in options.callback]
    console = make_console()
    warnings.showwarning = lambda message, *_: console.print(
        f"warning: {message}", style="yellow", highlight=False, markup=False
    )
    with RichDisplay(console) as display:
        if options.resume is not None:
            results = _resume(options, settings, display, callbacks)
        else:
            config = load_config(options.preset, options.config, settings)
            imports = tuple(dict.fromkeys((*config.imports, *imported)))
            config = take(config.model_copy(update={"imports": imports}))[0]
            if options.seeds or options.vary:
                seeds = parse_seeds(options.seeds) if options.seeds else [config.seed]
                members = member_configs(config, seeds, parse_vary(options.vary))
                folder = options.run_dir or default_run_dir(config, f"{len(members)}-members")
                results = list(train_population(members, folder, display, callbacks=callbacks).values())
            else:
                results = [train(config, options.run_dir, display, callbacks=callbacks)]
    return _conclude(results)


def _resume(
    options: argparse.Namespace, settings: dict[str, str], display: RichDisplay, callbacks: list[Any]
) -> list[RunResult]:
    from balrl.api import resume, resume_population
    from balrl.run.populations import is_population
    from balrl.run.presets import load_config
    from balrl.run.start_and_resume import read_run_config
    from balrl.settings import override, validate

    given = {"--run-dir": options.run_dir is not None, "--seeds": bool(options.seeds), "--vary": bool(options.vary)}
    if any(given.values()):
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise UserError(f"--resume goes on with what stands in its own directory; leave {names} out")
    if is_population(options.resume):
        if options.preset or options.config or settings:
            raise UserError(f"'{options.resume}' is a population: it resumes with its own settings, leave others out")
        return list(resume_population(options.resume, display, callbacks=callbacks).values())
    stored = read_run_config(options.resume)
    asked = None
    if options.preset or options.config:
        asked = load_config(options.preset, options.config, settings)
    elif settings:
        data = override(stored.model_dump(mode="json"), settings)
        asked = validate(type(stored), data, "your settings")
    return [resume(options.resume, asked, display, callbacks=callbacks)]


def _conclude(results: Sequence[RunResult]) -> int:
    """Say how it ended, and return the exit code."""
    path = results[0].run_dir if len(results) == 1 else results[0].run_dir.parent
    diverged = [result.run_dir.name for result in results if result.summary["outcome"] == "diverged"]
    if len(results) > 1:
        scores = [result.final_score for result in results]
        print(f"final scores: mean {mean(scores):.1f}, from {min(scores):.1f} to {max(scores):.1f}")
    if diverged:
        print(f"stopped, because it diverged: {path}" + (f" ({', '.join(diverged)})" if len(results) > 1 else ""))
        return EXIT_DIVERGED
    if not all(result.finished for result in results):
        print(f"stopped and saved; go on with: balrl train --resume {path}")
        return EXIT_INTERRUPTED
    print(f"done: {path}")
    return 0


def parse_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Return settings from ``key=value``, ``--key=value`` and ``--key value``; dashes in keys mean underscores."""
    settings: dict[str, str] = {}
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        key, equals, value = argument.removeprefix("--").partition("=")
        if not equals:
            following = arguments[position + 1 : position + 2]
            if not argument.startswith("--") or not following or following[0].startswith("--"):
                raise UserError(f"'{argument}' has no value; expected KEY=VALUE or --KEY VALUE")
            value = following[0]
            position += 1
        settings[key.replace("-", "_")] = value
        position += 1
    return settings


def _print_settings(preset: str | None, file: Path | None, settings: dict[str, str]) -> None:
    if preset is None and file is None:
        from balrl.run.presets import preset_names

        print("presets: " + ", ".join(preset_names()))
        print("\nAdd --preset PRESET to see every setting with its value.")
        return
    import tyro

    from balrl.run.presets import TrainConfig, load_config

    flags = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    print(f"\nEvery setting, with its value in {preset or file}:\n")
    sys.stdout.flush()
    tyro.cli(
        TrainConfig, default=load_config(preset, file, settings), args=["--help"], config=flags, prog="balrl train"
    )
