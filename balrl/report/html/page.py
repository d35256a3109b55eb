"""The HTML file: everything in it escaped, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from balrl.report.compare import Block
from balrl.report.curves import COLORS
from balrl.report.html.charts import Chart
from balrl.report.html.settings import Setting
from balrl.report.html.words import Sentence

KINDS = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4", ".webp": "image/webp"}
"""Files that a page shows."""


@dataclass(frozen=True)
class Picture:
    """A picture or film.

    Attributes:
        title: above it.
        path: of the file.
    """

    title: str
    path: Path

    @property
    def is_film(self) -> bool:
        """Whether a browser must play it."""
        return self.path.suffix == ".mp4"

    @property
    def source(self) -> Markup:
        """The file itself, as an address."""
        content = base64.b64encode(self.path.read_bytes()).decode()
        return Markup(f"data:{KINDS[self.path.suffix]};base64,{content}")


@dataclass(frozen=True)
class Section:
    """What a page says of one run.

    Attributes:
        name: of the run, unique in the page.
        facts: name and value, the most telling first.
        findings: what is worth knowing.
        charts: of its metrics; `switch` of what was measured around its switch.
        command: that begins it again; `resume` goes on with it, if it is not finished.
        settings: all of them, with sources; `config` is the file that has them.
        lint: what was found in its data; None where they were not looked at, `lint_note` says why.
        pictures: of its folder, and films.
        environment: of software and machine, by name.
        notes: what could not be shown, and why.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[Sentence]
    charts: Sequence[Chart]
    switch: Sequence[Chart]
    command: str
    resume: str | None
    settings: Sequence[Setting]
    config: str
    lint: Sequence[str] | None
    lint_note: str
    pictures: Sequence[Picture]
    environment: Sequence[tuple[str, str]]
    notes: Sequence[str] = field(default_factory=list)


def render(
    title: str,
    sections: Sequence[Section],
    shared: Sequence[Chart],
    blocks: Sequence[Block],
    notes: Sequence[str] = (),
) -> str:
    """Return a page.

    Args:
        title: of it.
        sections: one for each run.
        shared: curves of all runs together.
        blocks: the comparison of methods, where there are several runs.
        notes: what is not in the page, and why.
    """
    folder = resources.files("balrl.report.html")
    style, script, template = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html.jinja")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    charts: dict[str, Any] = {f"shared-{i}": chart.to_json() for i, chart in enumerate(shared)}
    for number, section in enumerate(sections):
        of_run = [*section.charts, *section.switch]
        charts |= {f"run-{number}-{i}": chart.to_json() for i, chart in enumerate(of_run)}
    return environment.from_string(template).render(
        title=title,
        sections=sections,
        shared=shared,
        notes=notes,
        blocks=[_block(block) for block in blocks],
        style=Markup(style),
        script=Markup(script),
        data=_json({"charts": charts, "colors": COLORS}),
    )


def _json(data: Mapping[str, Any]) -> Markup:
    """Return JSON that no text in it can end early."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _block(block: Block) -> dict[str, Any]:
    """Return a block of the comparison as text."""
    rows = []
    for row in block.rows:
        interval = f"[{row.interval[0]:.1f}, {row.interval[1]:.1f}]" if row.is_repeated else "one seed"
        better = "—"
        if row.improvement is not None:
            better = f"{row.improvement[0]:.2f}"
            if row.is_repeated and block.rows[0].is_repeated:
                better += f" [{row.improvement[1]:.2f}, {row.improvement[2]:.2f}]"
        rows.append((row.method, str(row.count), f"{row.iqm:.1f}", interval, better))
    return {"title": block.title, "rows": rows, "first": block.rows[0].method}
