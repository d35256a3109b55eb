"""Write docs/results/all.md and all.csv, every method on every dataset, and a CSV of every table. Takes no arguments.

What the studies kept is read, a number per seed; nothing is run.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from balrl.evaluation import bootstrap_interval

ROOT = Path(__file__).resolve().parent.parent / "docs" / "results"
TABLES = ROOT / "tables"
BALANCES = {
    "fixed": "{base}, fixed balance 1",
    "family": "famo2o-{base}, own choice",
    "family, chosen, then own": "famo2o-{base}, chosen by returns",
    "ssar": "ssar-{base}",
}
"""Of the methods of docs/results/balances.md those that are shown here, with their names."""
INTRODUCTION = """# All methods, all data

<!-- Written by scripts/make_results.py from what the studies kept; edit those. -->

    python scripts/make_results.py

One row per study, dataset and method: means over seeds of the last evaluation before and after fine-tuning (normalised
scores, or percent of successes on the door), with 95 % bootstrap intervals. **Rows of different studies are not to be
compared**: they differ in updates, environment steps and evaluations; each study's page says which. The same as
[CSV](all.csv); every other table of these pages is in [tables](tables), a CSV each.
"""


class Result(NamedTuple):
    """One seed: scores before and after fine-tuning, None where there was none."""

    study: str
    data: str
    method: str
    seed: int
    offline: float | None
    online: float | None


def lines(name: str) -> list[dict[str, Any]]:
    """Return what a study kept."""
    return [json.loads(line) for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]


def results() -> Iterator[Result]:
    """Return what every study found, a seed each."""
    for r in lines("flows/runs.jsonl"):
        if r["part"] in ("locomotion", "fork", "fork-good"):
            yield Result("flows", r["data"], r["method"], r["seed"], _last(r["offline"]), _last(r["online"]))
    for r in lines("balances/runs.jsonl"):
        if r["method"] in BALANCES and (r["method"] != "fixed" or r["balance"] == 1):
            name = BALANCES[r["method"]].format(base=r["base"])
            yield Result("balances", r["data"], name, r["seed"], r["served"][0], r["served"][-1])
    for r in lines("balances/door.jsonl"):
        found = [(e["phase"], 100 * e["success_rate"]) for e in r["evaluations"]]
        offline = [s for phase, s in found if phase == "pretrain"]
        yield Result("balances", "door, success", r["method"], r["seed"], _last(offline), None)
    for name in ("maze", "maze-medium", "hopper", "maze-strategies"):
        records = lines(f"switch/{name}.jsonl")
        for r in records:
            if r["group"] == "pretrain":
                yield Result("switch", name, r["method"], r["seed"], r["score"][-1], None)
            elif r["group"] == "online":
                yield Result("switch", name, r["method"], r["seed"], None, r["score"][-1])
    for file in sorted((ROOT / "spine").glob("locomotion-*.json")):
        data, method, seed = re.fullmatch(r"locomotion-(hopper-mixed-v5)-(.+)-s(\d+)", file.stem).groups()  # type: ignore[union-attr]
        evaluations = json.loads(file.read_text())["evaluations"]
        phases = {e["phase"]: e["score"] for e in evaluations}
        yield Result("spine", data, method, int(seed), phases.get("pretrain"), phases.get("finetune"))


def rows() -> list[dict[str, Any]]:
    """Return means and intervals, a row per study, dataset and method."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results():
        groups.setdefault(result[:3], []).append(result)
    found = []
    for (study, data, method), group in groups.items():
        row: dict[str, Any] = {"study": study, "data": data, "method": method, "seeds": len(group)}
        for phase in ("offline", "online"):
            values = [getattr(r, phase) for r in group if getattr(r, phase) is not None]
            low, high = bootstrap_interval([values], np.mean) if len(values) > 1 else (None, None)
            mean = float(np.mean(values)) if values else None
            row |= {phase: mean, f"{phase}_low": low, f"{phase}_high": high}
        found.append({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
    return found


def page(found: list[dict[str, Any]]) -> str:
    """Return the page of them."""
    parts = [INTRODUCTION]
    for study in dict.fromkeys(row["study"] for row in found):
        parts.append(
            f"\n## [{study.capitalize()}]({study}.md)\n\n| data | method | seeds | offline | after fine-tuning |"
        )
        parts.append("| --- | --- | --- | --- | --- |")
        here = [row for row in found if row["study"] == study]
        order = list(dict.fromkeys(row["data"] for row in here))
        for row in sorted(here, key=lambda row: order.index(row["data"])):
            cells = [_cell(row, phase) for phase in ("offline", "online")]
            parts.append(f"| {row['data']} | {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def tables() -> dict[str, str]:
    """Return every table of the pages of results as CSV, by file name."""
    found = {}
    for file in sorted(ROOT.glob("*.md")):
        if file.stem == "all":
            continue
        blocks = re.findall(r"^\|.+\|\n\|[ :|-]+\|\n(?:\|.+\|\n?)+", file.read_text(encoding="utf-8"), re.MULTILINE)
        for number, block in enumerate(blocks, 1):
            head, _, *body = block.strip().splitlines()
            found[f"{file.stem}-{number:02d}.csv"] = to_csv([_cells(line) for line in (head, *body)])
    return found


def to_csv(table: list[list[Any]]) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def _cells(line: str) -> list[str]:
    return [re.sub(r"[*`]", "", cell).strip().replace("—", "") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _cell(row: dict[str, Any], phase: str) -> str:
    mean, low, high = (row[f"{phase}{end}"] for end in ("", "_low", "_high"))
    return "—" if mean is None else f"{mean:.1f}" if low is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _last(scores: list[float]) -> float | None:
    return scores[-1] if scores else None


def files() -> dict[Path, str]:
    """Return everything that is written, by its file."""
    found = rows()
    made = {
        ROOT / "all.md": page(found),
        ROOT / "all.csv": to_csv([list(found[0]), *(list(r.values()) for r in found)]),
    }
    return made | {TABLES / name: text for name, text in tables().items()}


def main() -> None:
    TABLES.mkdir(exist_ok=True)
    made = files()
    for old in set(TABLES.glob("*.csv")) - made.keys():
        old.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote all.md, all.csv and {len(made) - 2} tables")


if __name__ == "__main__":
    main()
