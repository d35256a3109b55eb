"""``balrl report``: what is known of runs, put together into a page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from balrl.checkpoint import write_text
from balrl.errors import UserError, check_target, first_line, read_text
from balrl.foreign import read_json
from balrl.quantities import duration
from balrl.report.compare import Block, compare_runs
from balrl.report.html.charts import run_charts, switch_charts
from balrl.report.html.page import KINDS, Picture, Section, render
from balrl.report.html.settings import command_of, settings_of, sources_in
from balrl.report.html.words import findings
from balrl.report.runs import Run, find_runs, labels, read_runs
from balrl.run.presets import TrainConfig, load_config, preset_names, preset_text
from balrl.settings import validate
from balrl.watch.advice import PATTERNS, advice_for

MOST_BYTES = 10_000_000
"""Of a page: films and pictures that would make it larger are left out, and the page says so."""
DRAWN = ("curves.png", "switch.png", "compare.png")
"""Pictures of what the page has as curves."""


def write_report(
    runs: Sequence[str | Path],
    out: str | Path,
    lint: bool = True,
    film: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write one HTML file about runs: no network is needed to read it.

    It has what ran and how to run it again, scores with intervals, curves to point at, the switch, findings in plain
    words, the pictures and films in the run's folder, settings with their sources and what differs from the preset,
    versions; of several runs also the comparison of their methods.

    Args:
        runs: directories of runs, or folders of them.
        out: ``.html``.
        lint: check the runs' data, where they can be found.
        film: film an episode of each run's policy that has no film yet, into its folder; MP4, or GIF without PyAV.
        say: told what is being done.

    Raises:
        UserError: when a path holds no run, or a run has no evaluation yet.
    """
    target = check_target(Path(out), (".html",))
    found, skipped = _read([Path(run) for run in runs])
    names = _names(found)
    checked: dict[str, tuple[list[str] | None, str]] = {}
    sections, left, many = [], MOST_BYTES, len(found) > 1
    for name, run in names.items():
        say(f"reading {name}")
        key = f"{run.config.get('dataset')} {run.task}"
        if key not in checked:
            checked[key] = _lint(run) if lint else (None, "Not checked.")
        notes = _film(run, say) if film else []
        pictures, notes, left = _fitting(_pictures(run.path), notes, left)
        sections.append(_section(name, run, checked[key], pictures, notes, many))
    if many:
        title = f"{len(found)} runs: {', '.join(dict.fromkeys(run.task for run in found))}"
    else:
        title = f"{found[0].method} on {found[0].task}"
    blocks: list[Block] = []
    if many:
        try:
            blocks = compare_runs(found)
        except UserError as error:
            skipped = [*skipped, f"No comparison: {error}"]
    write_text(target, render(title, sections, switch_charts(names) if many else [], blocks, skipped))
    return target


def _names(runs: Sequence[Run]) -> dict[str, Run]:
    """Return runs by what tells them apart."""
    named: dict[str, Run] = {}
    for method, group in labels(runs).items():
        for run in group:
            task = f" on {run.task}" if len({r.task for r in runs}) > 1 else ""
            name = f"{method}{task}, seed {run.config['seed']}"
            if name in named:
                name = f"{name} ({run.path.name})"
            named[name if name not in named else f"{name} ({run.path})"] = run
    return named


def _read(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return runs, each once, and what is to be said of those in folders that cannot be read."""
    found: dict[Path, Run] = {}
    notes: list[str] = []
    for path in paths:
        for one in find_runs(path) or [path]:
            try:
                found.setdefault(one.resolve(), read_runs([one])[0])
            except UserError as error:
                if one == path:
                    raise
                notes.append(f"Left out: {error}")
    if not found:
        raise UserError(notes[0].removeprefix("Left out: "))
    return list(found.values()), notes


def _section(
    name: str, run: Run, lint: tuple[list[str] | None, str], pictures: list[Picture], notes: list[str], many: bool
) -> Section:
    summary: Mapping[str, Any] = {}
    if (run.path / "summary.json").exists():
        try:
            summary = read_json(run.path / "summary.json", dict)
        except UserError as error:
            notes = [*notes, str(error)]
    preset = run.config.get("preset")
    known = isinstance(preset, str) and preset in preset_names()
    defaults = load_config(preset).model_dump(mode="json") if known and isinstance(preset, str) else None
    sources = sources_in(preset_text(str(preset))) if known else {}
    settings = settings_of(run.config, defaults, sources)
    return Section(
        name,
        _facts(run, summary),
        findings(run, summary, _advice(run)),
        run_charts(run),
        [] if many else [chart for chart in switch_charts({name: run}) if chart.title != "Score"],
        command_of(run.config, settings, run.path / "config.yaml"),
        None if run.finished else f"balrl train --resume {shlex.quote(str(run.path))}",
        settings,
        read_text(run.path / "config.yaml", "configuration"),
        *lint,
        pictures,
        _environment(summary),
        notes,
    )


def _facts(run: Run, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    last = run.evaluations[-1]
    scores = [e["score"] for e in run.evaluations if e["score"] is not None and math.isfinite(e["score"])]
    unit = "normalised score" if run.is_normalized else "return"
    facts = [("method", run.method), ("task", run.task)]
    if scores:
        count = last.get("episodes")
        episodes = f" of {count} episodes" if isinstance(count, int) else ""
        newest = f"{last['score']:.1f}" if last["score"] == scores[-1] else "not a number"
        facts += [(f"last {unit}{episodes}", newest), (f"best {unit}", f"{max(scores):.1f}")]
    if last["success_rate"] is not None:
        facts.append(("success", f"{last['success_rate']:.0%}"))
    if run.config.get("dataset"):
        facts.append(("data", Path(str(run.config["dataset"])).name))
    updates, steps = last.get("updates"), last["env_steps"]
    facts += [("updates", f"{updates:,}")] if isinstance(updates, int) else []
    facts += [("environment steps", f"{steps:,}"), ("seed", str(run.config["seed"]))]
    seconds = summary.get("wall_seconds")
    if isinstance(seconds, Mapping):
        facts.append(("time", duration(sum(s for s in seconds.values() if isinstance(s, int | float)))))
    return [*facts, ("outcome", str(summary.get("outcome", "not finished")))]


def _environment(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("commit of balrl", str(summary.get("git_commit") or "unknown"))]
    found.append(("machine", str(summary.get("machine", "unknown"))))
    versions = summary.get("versions")
    return [*found, *((str(k), str(v)) for k, v in versions.items())] if isinstance(versions, Mapping) else found


def _advice(run: Run) -> dict[str, str]:
    try:
        config: TrainConfig = validate(TrainConfig, dict(run.config), f"'{run.path}'")
    except UserError:  # of another version of balrl
        return {}
    return {pattern: advice_for(pattern, config) for pattern in PATTERNS}


def _lint(run: Run) -> tuple[list[str] | None, str]:
    """Return what is wrong with a run's data, and what to say where nothing is, or where they were not looked at."""
    from balrl.data.inspect import problems
    from balrl.run.registry import load_dataset

    name = run.config.get("dataset")
    if not name:
        return None, "The run had no logged data."
    try:
        settings = run.config.get("data")
        keys = (settings.get("observation_keys") if isinstance(settings, Mapping) else None) or ()
        dataset = load_dataset(str(name), observation_keys=keys)
        return list(problems(dataset)), f"{len(dataset):,} transitions checked: nothing found."
    except UserError as error:
        return None, f"Not checked: {error}"


def _pictures(folder: Path) -> list[Picture]:
    """Return the pictures and films in a run's folder: whole files of its own, no links to others."""
    files = sorted(p for p in folder.iterdir() if p.suffix in KINDS and p.name not in DRAWN and p.name[0] != ".")
    files = [path for path in files if path.is_file() and not path.is_symlink()]
    return [Picture(path.stem.replace("_", " ").replace("-", " "), path) for path in files]


def _fitting(pictures: list[Picture], notes: list[str], left: int) -> tuple[list[Picture], list[str], int]:
    """Return the pictures for which there is room, with a note on each of the others, and the room that is left."""
    kept = []
    for picture in pictures:
        size = picture.path.stat().st_size * 4 // 3
        if size > left // 2:  # one does not take the room of all that follow
            notes = [*notes, f"'{picture.path.name}' is left out: it would make this file too large."]
            continue
        kept.append(picture)
        left -= size
    return kept, notes, left


def _film(run: Run, say: Callable[[str], None]) -> list[str]:
    """Film a run's policy into its folder, unless that was done; return what is to be said where it cannot be."""
    from balrl.run.trained import record_video
    from balrl.video import check_film

    if any(run.path.glob("film.*")):
        return []
    say(f"filming {run.path.name}")
    try:
        target = check_film(run.path / "film.mp4")
    except UserError:  # without PyAV
        target = run.path / "film.gif"
    try:
        record_video(run.path, target)
    except UserError as error:
        return [f"No film: {error}"]
    except Exception as error:  # a task of one's own
        return [f"No film: {type(error).__name__}: {first_line(error)}"]
    return []
