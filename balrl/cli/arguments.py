"""Types of command-line arguments, and arguments from configurations."""

from __future__ import annotations

import argparse
import math
from typing import Any, get_args, get_origin

from balrl.config import Config


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def non_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def weights(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them."""
    return tuple(number(part) for part in text.split(","))


def duration(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def deviation(text: str) -> float:
    """A finite number of at least 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def share(text: str) -> float:
    """A number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def _at_least(low: int, text: str) -> int:
    if not text.lstrip("-").isdigit() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {low}")
    return int(text)


def add_fields(parser: argparse.ArgumentParser, *kinds: type[Config]) -> None:
    """Add an argument for every field of some configurations, with its description and default."""
    for kind in kinds:
        for name, info in kind.model_fields.items():
            default = " ".join(map(str, info.default)) if isinstance(info.default, tuple) else info.default
            options: dict[str, Any] = {"help": f"{info.description}; default: {default}".replace("%", "%%")}
            if info.annotation is bool:
                options = {"action": "store_true", "help": info.description}
            elif get_origin(info.annotation) is tuple:
                options["nargs"] = "+"
            elif info.default is None and type(None) in get_args(info.annotation):
                options["help"] = info.description
            parser.add_argument(f"--{name.replace('_', '-')}", default=None, **options)


def given_fields(options: argparse.Namespace, kind: type[Config]) -> dict[str, Any]:
    """Return what the command line says of a configuration's fields, still unchecked."""
    found = {name: getattr(options, name) for name in kind.model_fields}
    return {name: value for name, value in found.items() if value is not None}
