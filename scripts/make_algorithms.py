"""Write docs/algorithms: a page per algorithm, of docstrings, presets, measured results and algorithms.yaml."""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from balrl import agents
from balrl.run.presets import preset_names

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "algorithms"
NOTE = "<!-- Written by scripts/make_algorithms.py; edit algorithms.yaml and the docstrings. -->"
INDEX = f"""# Algorithms

{NOTE}

Each page has the losses, when to use it and when not, its presets, what it measured here, and what released code does
otherwise. Not sure? `balrl advise DATA --env ID` looks at the data and says what to begin with. WSRL, RLPD, PEX, JSRL
and SO2 are no agents of their own but settings over one.

| algorithm | presets | when |
| --- | --- | --- |
"""


def page(name: str, about: Mapping[str, Any], results: Sequence[Mapping[str, str]]) -> str:
    """Return an algorithm's page."""
    parts = [f"# {about['title']}", NOTE]
    if "paper" in about:
        parts.append(f"[arXiv {about['paper']}](https://arxiv.org/abs/{about['paper']})")
    parts.append(equation(about))
    if "class" in about:
        parts.append(f"In code: `balrl.agents.{about['class']}`.")
    parts += ["## When to use it", str(about["when"])]
    if "guide" in about:
        parts.append(f"Guide: [{_title(about['guide'])}](../{about['guide']}).")
    parts += ["## Presets", "```sh\n" + "\n".join(command(preset) for preset in presets(about)) + "\n```"]
    parts += ["Every value and its source: `balrl config show PRESET`.", "## What it measured here"]
    parts.append(measured(about.get("results", {}), results))
    parts += ["## What released code does otherwise", str(about["theirs"])]
    return "\n\n".join(parts) + "\n"


def equation(about: Mapping[str, Any]) -> str:
    """Return the losses: what the class's docstring says of them, without its arguments."""
    if "equation" in about:
        return str(about["equation"])
    text = inspect.getdoc(getattr(agents, about["class"])) or ""
    return re.split(r"\n(?:Args|Attributes|Raises|Returns):", text)[0].strip()


def presets(about: Mapping[str, Any]) -> list[str]:
    """Return the names of an algorithm's presets."""
    return [name for name in preset_names() if name.partition("/")[0] in about["presets"]]


def command(preset: str) -> str:
    """Return how a preset is begun."""
    data = "" if "point-maze" in preset or preset.startswith(("ppo/classic", "fastsac")) else " --dataset FILE"
    return f"balrl train --preset {preset}{data}"


def measured(patterns: Mapping[str, str], results: Sequence[Mapping[str, str]]) -> str:
    """Return the rows of all results that are this algorithm's."""
    rows = []
    for row in results:
        if row["study"] in patterns and re.fullmatch(patterns[row["study"]], row["method"]):
            cells = [_cell(row, phase) for phase in ("offline", "online")]
            study = f"[{row['study']}](../results/{row['study']}.md)"
            rows.append(f"| {study} | {row['data']} | {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    if not rows:
        return "Nothing in a study of its own; see [all results](../results/all.md)."
    head = "| study | data | method | seeds | offline | after fine-tuning |\n| --- | --- | --- | --- | --- | --- |"
    return (
        "\n".join([head, *rows])
        + "\n\nRows of different studies are not to be compared; see [all of them](../results/all.md)."
    )


def _title(guide: str) -> str:
    return (ROOT / "docs" / guide).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def _cell(row: Mapping[str, str], phase: str) -> str:
    mean, low, high = (row[f"{phase}{end}"] for end in ("", "_low", "_high"))
    return "—" if not mean else f"{float(mean):.1f}" + (f" [{float(low):.1f}, {float(high):.1f}]" if low else "")


def files() -> dict[Path, str]:
    """Return every page, by its file."""
    known = yaml.safe_load((FOLDER / "algorithms.yaml").read_text(encoding="utf-8"))
    with (ROOT / "docs" / "results" / "all.csv").open(encoding="utf-8") as file:
        results = list(csv.DictReader(file))
    index = INDEX
    for name, about in known.items():
        first = re.split(r"(?<=[.:;]) ", str(about["when"]))[0].rstrip(":;.") + "."
        index += f"| [{about['title']}]({name}.md) | {', '.join(f'`{p}`' for p in about['presets'])} | {first} |\n"
    made = {FOLDER / f"{name}.md": page(name, about, results) for name, about in known.items()}
    return {FOLDER / "index.md": index, **made}


def main() -> None:
    made = files()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(made)} pages of algorithms")


if __name__ == "__main__":
    main()
