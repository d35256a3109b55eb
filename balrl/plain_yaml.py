"""YAML without its surprises, for settings."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from balrl.errors import UserError
from balrl.foreign import LARGEST


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: ``1e-3`` is a number; ``off``, ``010``, ``1:30`` and dates are words."""


class _Dumper(yaml.SafeDumper):
    """Quotes the words that `_Loader` would take for something else."""


def _resolve_plain_values(kind: type[_Loader] | type[_Dumper]) -> None:
    kind.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[-1] in ("null", "merge")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in (
        ("bool", r"true|True|false|False", "tTfF"),
        ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
        ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ):
        kind.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) >= LARGEST:
        raise ValueError(f"{len(node.value)} digits are too many")
    return value


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    """Quote and escape line breaks that are not newlines: YAML would fold them."""
    breaks = any(c in text for c in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if breaks else None)


_Dumper.add_representer(str, _represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_resolve_plain_values(_Loader)
_resolve_plain_values(_Dumper)


def dump_yaml(data: Any) -> str:
    """Write plain data as YAML that `parse_yaml` reads back."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def dump_in_one_line(data: Any) -> str:
    """Write plain data as YAML in one line, as settings stand on a command line."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=math.inf
    )
    return text.removesuffix("\n").removesuffix("\n...")


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML without constructing any object but plain data.

    Raises:
        UserError: naming `source` and the line of the mistake.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML (nested too deeply)") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # of tags that do not fit their values
        shown = text if len(text) <= 60 else f"{text[:57]}…"
        raise UserError(f"{source}: {shown!r} is not a value that YAML can read ({error}); quote it") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}{where}: not valid YAML ({getattr(error, 'problem', error)})") from error


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration '{path}': {error}") from error
    data = parse_yaml(text, f"'{path}'")
    if not isinstance(data, dict):
        raise UserError(f"'{path}' holds {type(data).__name__}, expected a mapping of settings")
    return data
