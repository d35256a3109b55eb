"""Reading finished or running runs back, to draw and to compare them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balrl.errors import UserError
from balrl.plain_yaml import parse_yaml
from balrl.watch.tracking import read_metrics

IRRELEVANT = ("seed", "device", "compile", "threads", "tracking", "checkpoint", "evaluation", "instruments")
"""Settings that do not make two runs different methods."""


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        path: of the directory.
        config: as plain data.
        evaluations: of ``evaluations.json``, in order.
        records: of ``metrics.jsonl``, in order.
        finished: whether it ran to its end.
    """

    path: Path
    config: dict[str, Any]
    evaluations: list[dict[str, Any]]
    records: list[dict[str, Any]]
    finished: bool

    @property
    def switch_step(self) -> int:
        """Where on the run's axis the task begins: the number of its pre-training updates."""
        return int(self.evaluations[-1]["step"] - self.evaluations[-1]["env_steps"])

    @property
    def task(self) -> str:
        """The environment, which runs must share for their scores to be comparable."""
        options = self.config.get("env_kwargs") or {}
        return " ".join([self.config["env"], *(f"{key}={value}" for key, value in options.items())])

    def settings(self) -> dict[str, Any]:
        """Return the settings that make the method, under dotted keys."""
        kept = {key: value for key, value in self.config.items() if key not in (*IRRELEVANT, "env", "env_kwargs")}
        flat = {key: value for key, value in _flatten(kept).items() if not key.endswith("eval_every")}
        for key in ("init.checkpoint", "dataset"):  # where a file lies says nothing
            flat[key] = Path(str(flat[key])).name if key == "dataset" else flat.get(key) is not None
        return flat


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run directories, or folders of them.

    Raises:
        UserError: for a path that holds no run, or a run without an evaluation.
    """
    found = []
    for path in paths:
        inside = [path] if (path / "config.yaml").is_file() else sorted(p.parent for p in path.glob("*/config.yaml"))
        if not inside:
            raise UserError(f"'{path}' is no balrl run and holds none; expected a directory that balrl train wrote")
        found += [_read(run) for run in inside]
    return found


def labels(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by method, each named by its agent and the settings that tell it from the others.

    Settings are compared among runs of one task, and hyperparameters of the agent among runs of the same agent.
    """
    settings = [run.settings() for run in runs]
    groups: dict[str, list[Run]] = {}
    for run, mine in zip(runs, settings, strict=True):
        words = [str(mine["agent.name"])]
        for key, value in mine.items():
            others = [
                other
                for other, them in zip(settings, runs, strict=True)
                if them.task == run.task and (not key.startswith("agent.") or other["agent.name"] == mine["agent.name"])
            ]
            if any(s.get(key) != value for s in others) and key != "agent.name":
                words.append(f"{key.removeprefix('agent.')}={_word(value)}")
        groups.setdefault(", ".join(words), []).append(run)
    return groups


def _read(path: Path) -> Run:
    config = parse_yaml((path / "config.yaml").read_text(encoding="utf-8"), f"'{path / 'config.yaml'}'")
    evaluations, summary = (_read_json(path / name) for name in ("evaluations.json", "summary.json"))
    needed = {"step", "env_steps", "score", "normalized_score"}
    if not isinstance(config, dict) or not all(isinstance(e, dict) and needed <= e.keys() for e in evaluations or []):
        raise UserError(f"'{path}' is damaged: its config.yaml or evaluations.json is not what balrl train writes")
    if not evaluations:
        raise UserError(f"'{path}' has no evaluation yet; let it run to its first one")
    finished = isinstance(summary, dict) and bool(summary.get("finished"))
    return Run(path, config, evaluations, read_metrics(path / "metrics.jsonl"), finished)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except ValueError as error:
        raise UserError(f"'{file}' is damaged ({error}); draw or compare the other runs") from error


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
