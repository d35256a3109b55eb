"""From what a person wrote to a configuration, or to one line that names the mistake."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from balrl.config import Config
from balrl.errors import UserError, did_you_mean
from balrl.plain_yaml import parse_yaml

ConfigT = TypeVar("ConfigT", bound=Config)
KINDS = ("agent.name", "agent.balance.kind")
"""The keys that say what their section is."""


def override(data: dict[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Return `data` with dotted settings such as ``{"agent.balance.maximum": "8"}`` applied; values are YAML.

    Changing what a section *is* (one of `KINDS`) drops the section's other keys: they belong to the old kind.
    """
    result: dict[str, Any] = copy.deepcopy(data)
    # What a section is goes first, so that its other settings apply to the new kind whatever their order.
    order = sorted(settings, key=lambda key: key not in KINDS)
    for key in order:
        value = parse_yaml(settings[key], f"--{key}")
        *sections, leaf = key.split(".")
        node = result
        for section in sections:
            child = node.setdefault(section, {})
            if not isinstance(child, dict):
                raise UserError(f"--{key}: '{section}' is a single value, not a section")
            node = child
        if key in KINDS and node.get(leaf) != value:
            node.clear()
        node[leaf] = value
    return result


def validate(kind: type[ConfigT], data: Any, source: str) -> ConfigT:
    """Build a configuration, or raise a `UserError` with the first mistake in one line."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error, kind)}") from error


def describe(error: ValidationError, kind: type[Config]) -> str:
    """Return the first validation error as one line: the key, the value found, what was expected."""
    first = error.errors()[0]
    names = sorted(set(field_names(kind)))
    path, tags = _without_tags([str(part) for part in first["loc"]], kind)
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        if key in names:
            return f"'{key}' is no setting of {', '.join(tags)}; change the kind first, or leave the key out"
        return f"unknown key '{key}'{did_you_mean(key, names)}"
    if first["type"] == "missing":
        return f"'{key}' is missing"
    if first["type"].startswith("union_tag"):
        return f"{key}: {first['msg'].replace('Input tag', 'the value')}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected it to be")
    return f"{key} = {first['input']!r}: {message}" if key else message


def _without_tags(path: list[str], kind: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return an error's place as the user wrote it, and the tags in it: a discriminated union adds the one it chose."""
    kept: list[str] = []
    tags: list[str] = []
    models, is_tag = [kind], False
    for part in path:
        if is_tag:
            tags.append(part)
            is_tag = False
            continue
        kept.append(part)
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [t for info in fields for t in _types_in(info.annotation) if issubclass(t, BaseModel)]
        is_tag = any(info.discriminator is not None for info in fields)
    return kept, tags


def field_names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration, of all members where a section can be one of several."""
    for name, info in kind.model_fields.items():
        sections = [t for t in _types_in(info.annotation) if issubclass(t, BaseModel)]
        if not sections:
            yield prefix + name
        for section in sections:
            yield from field_names(section, f"{prefix}{name}.")


def _types_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _types_in(argument)
