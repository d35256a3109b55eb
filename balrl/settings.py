"""From what a person wrote to a configuration, or to one line that names the mistake."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from balrl.config import Config
from balrl.errors import UserError, did_you_mean
from balrl.plain_yaml import parse_yaml

ConfigT = TypeVar("ConfigT", bound=Config)
KINDS = ("agent.name", "agent.balance.kind")
"""The keys that say what their section is."""
ALTERNATIVES = (("reward.ensemble", "reward.preferences", "reward.pairs"),)
"""Settings of which one is enough: the later takes the place of the earlier."""


def override(data: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` with dotted settings such as ``{"agent.balance.maximum": 8}`` applied; text is YAML.

    Changing what a section *is* (one of `KINDS`) drops the section's other keys: they belong to the old kind.
    """
    result: dict[str, Any] = copy.deepcopy(data)
    # What a section is goes first, so that its other settings apply to the new kind whatever their order.
    order = sorted(settings, key=lambda key: key not in KINDS)
    for key in order:
        _replace_alternatives(result, key, settings)
        value = settings[key]
        if isinstance(value, str):
            value = parse_yaml(value, f"--{key}")
        elif isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
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


def _replace_alternatives(data: dict[str, Any], key: str, settings: Mapping[str, Any]) -> None:
    """Drop what a setting stands in the place of, and say so; what was set together stays, and is refused together."""
    for group in ALTERNATIVES:
        for other in group if key in group else ():
            section, _, leaf = other.partition(".")
            before = data.get(section)
            if other not in settings and isinstance(before, dict) and before.pop(leaf, None):
                warnings.warn(f"{key} takes the place of the preset's {other}", stacklevel=3)


def validate(kind: type[ConfigT], data: Any, source: str) -> ConfigT:
    """Build a configuration, or raise a `UserError` with the first mistake in one line."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error, kind, data)}") from error


def describe(error: ValidationError, kind: type[Config], data: Any = None) -> str:
    """Return the first validation error as one line: the key, the value found, what was expected.

    Args:
        error: pydantic's.
        kind: of the configuration.
        data: that it was to be made of; names are suggested that sections of their kind have.
    """
    first = error.errors()[0]
    every, names = (sorted(set(field_names(kind, data=given))) for given in (None, data))
    path, tags = _without_tags([str(part) for part in first["loc"]], kind)
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        if key in every:
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


def field_names(kind: type[BaseModel], prefix: str = "", data: Any = None) -> Iterator[str]:
    """Yield every dotted key of a configuration, of all members where a section can be one of several.

    Args:
        kind: of the configuration.
        prefix: of the keys.
        data: from which to tell which member a section is.
    """
    for name, info in kind.model_fields.items():
        inside = data.get(name) if isinstance(data, Mapping) else None
        sections = [t for t in _types_in(info.annotation) if issubclass(t, BaseModel)]
        meant = [t for t in sections if isinstance(inside, Mapping) and _is_meant(t, inside, info.discriminator)]
        if not sections:
            yield prefix + name
        for section in meant or sections:
            yield from field_names(section, f"{prefix}{name}.", inside)


def _is_meant(section: type[BaseModel], data: Mapping[str, Any], discriminator: Any) -> bool:
    """Whether a section of some data is of this kind, by the field that tells kinds apart."""
    field = section.model_fields.get(str(discriminator))
    return field is not None and field.default == data.get(str(discriminator))


def _types_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _types_in(argument)
