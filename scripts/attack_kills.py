"""Runs that are killed at random moments and resumed, again and again, against the same runs that were not."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attack_forks import KILLED, command, preload

from balrl.checkpoint import list_checkpoints, load_tensors

AT_ONCE = 10
"""Kills of one run, at most."""
LEFT_OUT = ("time/phase_seconds",)


def cases(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a case for every run that is to be killed: its preset, settings, seed and number of kills."""
    preload()
    kills, found = protocol["kills"], []
    for kind, total in (("families", kills["runs"]), ("population", kills["populations"])):
        presets = list(kills[kind].items())
        for index in range(-(-total // AT_ONCE)):
            preset, own = presets[index % len(presets)]
            count = min(AT_ONCE, total - AT_ONCE * index)
            seed = protocol["seed"] + index
            found.append(
                {
                    "case": f"{kind} {preset} {seed}",
                    "group": f"{preset}, {'two members' if kind == 'population' else 'one run'}",
                    "preset": preset,
                    "settings": {**kills["settings"], **own},
                    "members": 2 if kind == "population" else 1,
                    "count": count,
                    "seed": seed,
                }
            )
    return found


def attack(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case undisturbed, then killed, and compare what is left to the bit."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    draw = random.Random(case["seed"])
    settings = [f"{key}={json.dumps(value)}" for key, value in case["settings"].items()]
    seeds = ["--seeds", "0:2"] if case["members"] == 2 else [f"seed={case['seed']}"]
    start = ["train", "--preset", case["preset"], *settings, *seeds]
    whole = command([*start, "--run-dir", "whole"], folder)
    result = {key: case[key] for key in ("case", "group")} | {"count": 0, "verdict": "good", "seconds": whole.seconds}
    if whole.code != 0:
        return result | {"verdict": f"did not run: {whole.text[-300:]}"}
    begun = False
    for _ in range(case["count"]):
        arguments = ["train", "--resume", "cut"] if begun else [*start, "--run-dir", "cut"]
        ended = command(arguments, folder, kill_after=draw.uniform(0, 0.6 * whole.seconds))
        begun = begun or any((folder / "cut").rglob("*.yaml"))
        if ended.code not in (0, KILLED):
            return result | {"verdict": f"exit code {ended.code} after {result['count']} kills: {ended.text[-300:]}"}
        if ended.code == 0:
            shutil.rmtree(folder / "cut")  # it was through; the next kill strikes a new one
            begun = False
        else:
            result["count"] += 1
    last = command(["train", "--resume", "cut"] if begun else [*start, "--run-dir", "cut"], folder)
    if last.code != 0:
        return result | {"verdict": f"did not finish: exit code {last.code}: {last.text[-300:]}"}
    for run in sorted(path.parent for path in (folder / "whole").rglob("config.yaml")):
        found = difference(run, folder / "cut" / run.relative_to(folder / "whole"))
        if found:
            return result | {"verdict": found}
    shutil.rmtree(folder)
    return result


def difference(one: Path, other: Path) -> str | None:
    """Return what two runs differ in: final tensors, evaluations, metrics; None for nothing."""
    a, b = list_checkpoints(one)[0], list_checkpoints(other)[0]
    if a.name != b.name:
        return f"the last checkpoints are {a.name} and {b.name}"
    for file in sorted(a.glob("*.safetensors")):
        first, second = load_tensors(a, file.stem), load_tensors(b, file.stem)
        for name, value in first.items():
            if not value.equal(second[name]):
                return f"{file.stem} {name} differs by {(value.double() - second[name].double()).abs().max():.2g}"
    if json.loads((one / "evaluations.json").read_text()) != json.loads((other / "evaluations.json").read_text()):
        return "evaluations differ"
    records = [[_compared(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    if records[0] != records[1]:
        return f"metrics differ, {len(records[0])} and {len(records[1])} records"
    pictures = {path.name for path in one.glob("*.png")}
    if pictures != {path.name for path in other.glob("*.png")}:
        return "pictures are missing"
    return None


def _compared(line: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(line).items() if key not in LEFT_OUT}
