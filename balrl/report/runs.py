"""Reading finished or running runs back, to draw and to compare them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balrl.errors import UserError
from balrl.foreign import expect, fields, read_json
from balrl.plain_yaml import read_config_file
from balrl.watch.tracking import read_metrics

IRRELEVANT = (
    "preset", "imports", "seed", "device", "compile", "threads", "tracking", "checkpoint", "evaluation",
    "instruments", "environment",
)  # fmt: skip
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

    @property
    def method(self) -> str:
        """What it ran."""
        return method_of(self.config)

    @property
    def is_normalized(self) -> bool:
        """Whether its scores are normalised, and so comparable with those on other tasks."""
        return self.evaluations[-1]["normalized_score"] is not None

    def settings(self) -> dict[str, Any]:
        """Return the settings that make the method, under dotted keys."""
        kept = {key: value for key, value in self.config.items() if key not in (*IRRELEVANT, "env", "env_kwargs")}
        flat = {key: value for key, value in flatten(kept).items() if not key.endswith("eval_every")}
        if flat.get("finetune.retain") != "ratio":
            flat.pop("finetune.offline_ratio", None)  # of nothing
        for key in ("init.checkpoint", "dataset"):  # where a file lies says nothing
            flat[key] = Path(str(flat[key])).name if key == "dataset" else flat.get(key) is not None
        return flat


def method_of(config: Mapping[str, Any]) -> str:
    """Return what a configuration's method is called: its preset's folder (wsrl, famo2o-iql, …), or else its agent."""
    agent = config["agent"]
    balance = agent.get("balance")
    family = "famo2o-" if isinstance(balance, Mapping) and balance.get("kind") == "state-adaptive" else ""
    return str(config.get("preset") or f"{family}{agent['name']}").partition("/")[0]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run directories, or folders of them.

    Raises:
        UserError: for a path that holds no run, or a run without an evaluation.
    """
    found = []
    for path in paths:
        inside = find_runs(path)
        if not inside:
            raise UserError(f"'{path}' is no balrl run and holds none; expected a directory that balrl train wrote")
        found += [_read(run) for run in inside]
    return found


def find_runs(path: Path) -> list[Path]:
    """Return the run directories that a path stands for: itself, or those in it."""
    return [path] if (path / "config.yaml").is_file() else sorted(p.parent for p in path.glob("*/config.yaml"))


def labels(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by method, each named by its preset or agent and by the settings that tell it from others of that
    name.

    Settings are compared among runs of one task. A setting is named in full where its last word alone would be
    ambiguous.
    """
    settings = [run.settings() for run in runs]
    differing: list[dict[str, Any]] = []
    for run, mine in zip(runs, settings, strict=True):
        alike = [s for s, r in zip(settings, runs, strict=True) if (r.task, r.method) == (run.task, run.method)]
        differing.append({key: value for key, value in mine.items() if any(s.get(key) != value for s in alike)})
    keys = {key for mine in settings for key in mine}
    groups: dict[str, list[Run]] = {}
    for run, found in zip(runs, differing, strict=True):
        words = [f"{_short(key, keys)}={_word(value)}" for key, value in found.items()]
        groups.setdefault(", ".join([run.method, *words]), []).append(run)
    return groups


def _short(key: str, others: Collection[str]) -> str:
    """Return the last word of a key if it is the only one that ends so and says enough alone."""
    last = key.rsplit(".", 1)[-1]
    vague = last in ("steps", "updates", "kind", "name", "checkpoint", "capacity", "every", "layers")
    return key.removeprefix("agent.") if vague or sum(k.rsplit(".", 1)[-1] == last for k in others) > 1 else last


def _read(path: Path) -> Run:
    config = read_config_file(path / "config.yaml")
    fields(config, {"env": str, "seed": int, "agent": dict}, f"'{path / 'config.yaml'}'")
    fields(config["agent"], {"name": str}, f"'{path / 'config.yaml'}': 'agent'")
    expect(config.get("env_kwargs") or {}, dict, f"'{path / 'config.yaml'}': 'env_kwargs'")
    summary = read_json(path / "summary.json", dict) if (path / "summary.json").exists() else {}
    evaluations = read_evaluations(path / "evaluations.json")
    if not evaluations:
        raise UserError(f"'{path}' has no evaluation yet; let it run to its first one")
    return Run(path, config, evaluations, read_metrics(path / "metrics.jsonl"), bool(summary.get("finished")))


def read_evaluations(file: Path) -> list[dict[str, Any]]:
    """Return the evaluations of an ``evaluations.json``; none if there is no such file.

    Raises:
        UserError: when it is not what balrl writes.
    """
    found: list[dict[str, Any]] = read_json(file, list) if file.exists() else []
    for index, record in enumerate(found):
        source = f"'{file}', evaluation {index}"
        fields(record, {"step": int, "env_steps": int, "phase": str}, source)
        for key in ("score", "normalized_score", "return_mean", "success_rate"):
            if record.get(key) is not None:
                expect(record[key], float, f"{source}: '{key}'")
            record.setdefault(key, None)
    return found


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {prefix + key: value}
    return flat


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
