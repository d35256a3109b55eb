"""A run's settings, where they come from, and what differs from its preset."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from balrl.plain_yaml import dump_in_one_line
from balrl.report.runs import flatten

NOT_SET = "not set"
"""What the preset says of keys that only the run has."""


class Setting(NamedTuple):
    """One setting of a run.

    Attributes:
        key: dotted.
        value: as YAML.
        preset: what the preset has, as YAML; `NOT_SET` where it says nothing, None where the run has no preset.
        source: where the preset's value is from.
    """

    key: str
    value: str
    preset: str | None
    source: str

    @property
    def is_changed(self) -> bool:
        """Whether it is another value than the preset's."""
        return self.preset is not None and self.preset != self.value


def settings_of(
    config: Mapping[str, Any], preset: Mapping[str, Any] | None, sources: Mapping[str, str]
) -> list[Setting]:
    """Return a run's settings.

    Args:
        config: of the run, as plain data.
        preset: the preset's whole configuration, as plain data; None where there is no preset.
        sources: of the preset's values, by dotted key.
    """
    known = {key: dump_in_one_line(value) for key, value in flatten(preset or {}).items()}
    otherwise = None if preset is None else NOT_SET
    return [
        Setting(key, dump_in_one_line(value), known.get(key, otherwise), sources.get(key, ""))
        for key, value in flatten(config).items()
        if key != "preset"
    ]


def sources_in(text: str) -> dict[str, str]:
    """Return the comments beside the values of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        content = line.lstrip()
        if not content or content.startswith(("#", "-")):
            continue
        key, _, rest = content.partition(":")
        depth = len(line) - len(content)
        path = [(at, name) for at, name in path if at < depth] + [(depth, key)]
        value, mark, comment = rest.partition(" # ")
        if mark and value.strip():
            found[".".join(name for _, name in path)] = comment.strip()
    return found


def command_of(config: Mapping[str, Any], settings: list[Setting], file: Path) -> str:
    """Return the command line that begins the same run again: from its preset, or else from its file of settings."""
    preset = config.get("preset")
    if not preset or all(setting.preset is None for setting in settings):  # or this balrl has no such preset
        return shlex.join(["balrl", "train", "--config", str(file)])
    changed = [f"{setting.key}={setting.value}" for setting in settings if setting.is_changed]
    imports = [word for name in config.get("imports") or [] for word in ("--import", str(name))]
    changed = [word for word in changed if not word.startswith("imports=")]
    return shlex.join(["balrl", "train", "--preset", str(preset), *imports, *changed])
