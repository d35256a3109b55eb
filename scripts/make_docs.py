"""Write docs/configuration.md, every setting of a run, and the tree in docs/design.md. Takes no arguments."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from balrl.agents.hyperparameters import BalanceConfig
from balrl.agents.registration import OWN
from balrl.run.presets import TrainConfig, preset_names

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION, DESIGN = ROOT / "docs" / "configuration.md", ROOT / "docs" / "design.md"
TREE = re.compile(r"(?<=edit those\. -->\n```\n).+?(?=```)", re.DOTALL)
COLUMN, WIDTH = 30, 124
INTRODUCTION = """# Configuration

<!-- Written by scripts/make_docs.py; edit the descriptions in the code. -->

A run is one typed configuration. The same keys work in a YAML file (`--config FILE`), on the command line
(`agent.expectile=0.9`, `--agent.expectile 0.9` or `--agent.expectile=0.9`) and in Python
(`balrl.load_config("iql/locomotion", settings={{"agent.expectile": "0.9"}})`). Unknown keys and values out of range are
errors. Setting a section's `kind` or `name` replaces the section.

Presets: {presets}.
"""


def sections(model: type[BaseModel], prefix: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Return the sections of a configuration, outermost first."""
    found = [(prefix, model)]
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found += sections(info.annotation, f"{prefix}{name}.")
    return found


def type_name(annotation: Any) -> str:
    """Return a type as people write it, safe inside a Markdown table."""
    text = getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
    text = text.replace("typing.", "").replace("balrl.agents.hyperparameters.", "").replace("NoneType", "None")
    text = re.sub(r"Annotated\[(\w+), FieldInfo\(.*?\]\)\]", r"\1", text)
    text = re.sub(r"Union\[([^\[\]]*)\]", lambda found: found[1].replace(", ", " | "), text)
    return text.replace("|", "\\|")


def limits(info: Any) -> str:
    """Return a field's range."""
    words = {"Gt": "> {gt}", "Ge": "≥ {ge}", "Lt": "< {lt}", "Le": "≤ {le}", "MultipleOf": "multiple of {multiple_of}"}
    return ", ".join(
        words[type(m).__name__].format(**vars(m) if hasattr(m, "__dict__") else {s: getattr(m, s) for s in m.__slots__})
        for m in info.metadata
        if isinstance(m, annotated_types.BaseMetadata) and type(m).__name__ in words
    )


def table(prefix: str, model: type[BaseModel]) -> list[str]:
    """Return the Markdown table of one section's own settings."""
    rows = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, info in model.model_fields.items():
        if not info.description:
            continue
        default = "required" if info.default is PydanticUndefined else f"`{_plain(info.default)}`"
        rows.append(
            f"| `{prefix}{name}` | {type_name(info.annotation)} | {default} | {limits(info)} | {info.description} |"
        )
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ", ".join(f"{k}: {v}" for k, v in value.model_dump().items())
    return "null" if value is None else str(value)


def render() -> str:
    """Return the whole of docs/configuration.md."""
    lines = [INTRODUCTION.format(presets=", ".join(f"`{name}`" for name in preset_names()))]
    parts = sections(TrainConfig)
    parts += [("agent.", model) for model in (own.config for own in OWN)]
    parts += [("agent.balance.", model) for model in get_args(get_args(BalanceConfig)[0])]
    for prefix, model in parts:
        tag = next((f.default for n, f in model.model_fields.items() if n in ("name", "kind")), None)
        title = prefix.rstrip(".") or "The run"
        lines += [f"## {title}" + (f" ({tag})" if tag else ""), "", str(model.__doc__), "", *table(prefix, model), ""]
    return "\n".join(lines).rstrip() + "\n"


def described(file: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".").replace("``", "")


def tree() -> str:
    """Return every module and what it is for, the core's files first, then its rooms."""
    lines = []
    for base in ("balrl", "agents", "envs"):
        root = ROOT / base
        folders = [root, *sorted(p.parent for p in root.rglob("__init__.py") if p.parent != root)]
        for folder in folders:
            relative = folder.relative_to(ROOT)
            if len(relative.parts) > 1 and relative.parts[1] in ("agents", "envs", "configs"):
                continue  # the symbolic links
            lines += entry(f"{relative}/", described(folder / "__init__.py"))
            for file in sorted(file for file in folder.glob("*.py") if file.name != "__init__.py"):
                lines += entry(f"  {file.name}", described(file))
    return "\n".join([*lines, *entry("configs/", "YAML presets, imported as balrl.configs"), ""])


def entry(name: str, text: str) -> list[str]:
    """Return a name and what it is for, in two columns."""
    return textwrap.wrap(text, WIDTH, initial_indent=name.ljust(COLUMN), subsequent_indent=" " * COLUMN)


def design() -> str:
    """Return docs/design.md with the tree as it is."""
    return TREE.sub(lambda _: tree(), DESIGN.read_text(encoding="utf-8"), count=1)


if __name__ == "__main__":
    for target, text in ((CONFIGURATION, render()), (DESIGN, design())):
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target.relative_to(ROOT)}")
