"""``balrl train``: settings from the command line over a preset or a file."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from balrl.errors import EXIT_DIVERGED, EXIT_INTERRUPTED, UserError

USAGE = """balrl train --preset PRESET [--dataset FILE] [--env ID] [KEY=VALUE | --KEY VALUE …]
       balrl train --config FILE [KEY=VALUE …]
       balrl train --resume RUN_DIR
       balrl train --preset PRESET init.checkpoint=RUN_OR_CHECKPOINT
       balrl train --preset PRESET --help"""


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments of ``balrl train`` and train."""
    parser = argparse.ArgumentParser(prog="balrl train", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", help="one of `balrl config list`")
    parser.add_argument("--config", type=Path, help="a YAML file instead of a preset")
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with an interrupted run")
    parser.add_argument("--run-dir", type=Path, help="default: runs/<agent>-<task>-s<seed>-<time>")
    parser.add_argument(
        "--on-divergence", choices=("warn", "stop", "rollback"), help="what to do when the watchdog sees something"
    )
    parser.add_argument("-h", "--help", action="store_true", help="with a preset: every setting and its value")
    options, rest = parser.parse_known_args(arguments)
    if options.help:
        parser.print_help()
        _print_settings(options.preset, options.config, parse_settings(rest))
        return 0
    settings = parse_settings(rest)
    if options.on_divergence:
        settings["watchdog.on_divergence"] = options.on_divergence

    from rich.console import Console

    from balrl.api import read_run_config, resume, train
    from balrl.config import override, validate
    from balrl.display import RichDisplay
    from balrl.presets import load_config

    console = Console()
    warnings.showwarning = lambda message, *_: console.print(f"warning: {message}", style="yellow", highlight=False)
    with RichDisplay(console) as display:
        if options.resume is not None:
            if options.run_dir is not None:
                raise UserError("--resume goes on in the run's own directory; leave --run-dir out")
            stored = read_run_config(options.resume)
            asked = None
            if options.preset or options.config:
                asked = load_config(options.preset, options.config, settings)
            elif settings:
                data = override(stored.model_dump(mode="json"), settings)
                asked = validate(type(stored), data, "your settings")
            result = resume(options.resume, asked, display)
        else:
            config = load_config(options.preset, options.config, settings)
            result = train(config, options.run_dir, display)
    if result.summary["outcome"] == "diverged":
        print(f"stopped, because it diverged: {result.run_dir}")
        return EXIT_DIVERGED
    if not result.finished:
        print(f"stopped and saved; go on with: balrl train --resume {result.run_dir}")
        return EXIT_INTERRUPTED
    print(f"done: {result.run_dir}")
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
        from balrl.presets import preset_names

        print("presets: " + ", ".join(preset_names()))
        print("\nAdd --preset PRESET to see every setting with its value.")
        return
    import tyro

    from balrl.presets import TrainConfig, load_config

    flags = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    print(f"\nEvery setting, with its value in {preset or file}:\n")
    sys.stdout.flush()
    tyro.cli(
        TrainConfig, default=load_config(preset, file, settings), args=["--help"], config=flags, prog="balrl train"
    )
