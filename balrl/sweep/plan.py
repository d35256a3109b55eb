"""The runs of a sweep, each named by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balrl.errors import UserError
from balrl.report.runs import method_of
from balrl.run.presets import TrainConfig, load_config
from balrl.sweep.combinations import combinations
from balrl.sweep.spec import SweepConfig


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        name: of its directory: method, task, seed and a digest of its configuration; two runs of one name are the same.
        config: what it runs.
        parent: name of the run whose policy it starts from.
        labels: what the sweep's file calls it: ``preset``, ``dataset``, ``env``, ``seed`` and every varied setting.
        is_parent: whether it is only made for others to start from.
    """

    name: str
    config: TrainConfig
    parent: str | None
    labels: dict[str, Any]
    is_parent: bool = False


def make_plan(
    spec: SweepConfig,
    runs: Path,
    root: Path,
    imports: Sequence[str] = (),
    varied: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Planned]:
    """Return every run of a sweep by name, those that others start from before them, then seed by seed.

    Args:
        spec: of the sweep.
        runs: folder of the run directories.
        root: folder that relative paths of data and configurations are looked up in.
        imports: modules that every run imports first.
        varied: combinations of settings in place of the sweep's own.

    Raises:
        UserError: naming the run whose settings are wrong.
    """
    planner = _Planner(spec, runs, root, tuple(imports))
    chosen = combinations(spec) if varied is None else list(varied)
    for seed in spec.seeds:
        for dataset, of_dataset in (spec.datasets or {"": {}}).items():
            for env, of_env in (spec.envs or {"": {}}).items():
                shared = {**spec.settings, **_named(dataset, of_dataset, "dataset"), **_named(env, of_env, "env")}
                where = {"dataset": dataset, "env": env, "seed": seed}
                for label, entry in spec.presets.items():
                    for values in chosen:
                        planner.add(label, entry, shared, values, where)
    return {**planner.parents, **planner.runs}


class _Planner:
    def __init__(self, spec: SweepConfig, runs: Path, root: Path, imports: tuple[str, ...]) -> None:
        self.spec, self.folder, self.root, self.imports = spec, runs, root, imports
        self.parents: dict[str, Planned] = {}
        self._made: dict[tuple[Any, ...], str] = {}
        self.runs: dict[str, Planned] = {}

    def add(
        self,
        label: str,
        entry: Mapping[str, Any],
        shared: Mapping[str, Any],
        values: Mapping[str, Any],
        where: Mapping[str, Any],
    ) -> None:
        parent, more = None, {}
        if "from" in entry:
            parent = self._add_parent(str(entry["from"]), shared, where)
            more = {"pretrain.updates": 0, "init.checkpoint": str(self.folder / parent)}
        planned = self._make(label, entry, {**shared, **more, **_settings(entry), **values}, where, values, parent)
        self.runs.setdefault(planned.name, planned)

    def _add_parent(self, label: str, shared: Mapping[str, Any], where: Mapping[str, Any]) -> str:
        key = label, *where.values()
        if key in self._made:
            return self._made[key]
        entry = self.spec.pretrain[label]
        settings = {**shared, "warmup.steps": 0, "finetune.steps": 0, **_settings(entry)}
        planned = self._make(label, entry, settings, where, {}, None, is_parent=True)
        self.parents.setdefault(planned.name, planned)
        self._made[key] = planned.name
        return planned.name

    def _make(
        self,
        label: str,
        entry: Mapping[str, Any],
        settings: Mapping[str, Any],
        where: Mapping[str, Any],
        values: Mapping[str, Any],
        parent: str | None,
        is_parent: bool = False,
    ) -> Planned:
        given = {"seed": where["seed"], **settings}  # an entry may have its own
        file = self._found(entry["config"]) if "config" in entry else None
        preset = None if file is not None else str(entry.get("preset", label))
        words = [str(word) for key, word in where.items() if word != "" and key != "seed"]
        try:
            config = load_config(preset, file, {key: _as_value(value) for key, value in given.items()})
            config = config.model_copy(update={"imports": tuple(dict.fromkeys((*config.imports, *self.imports)))})
            config.check_phases()
        except UserError as error:
            raise UserError(f"{' on '.join([label, *words])}: {error}") from error
        name = _name(config, parent, where)
        if config.dataset is not None:
            config = config.model_copy(update={"dataset": self._found(config.dataset)})
        labels = {"preset": label, **{key: where[key] for key in ("dataset", "env") if where[key]}, **values}
        return Planned(name, config, parent, {**labels, "seed": config.seed}, is_parent)

    def _found(self, path: Any) -> str:
        """Return a path from the sweep's file as one that any process finds; names of built-in data stay."""
        inside = self.root / str(path)
        return str(inside) if inside.exists() else str(path)


def _named(label: str, entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {} if not label else {key: label, **entry}


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("preset", "config", "from")}


def _as_value(value: Any) -> Any:
    """Return text as YAML that means this text, so that a path or a name is never read as something else."""
    return json.dumps(value) if isinstance(value, str) else value


def _name(config: TrainConfig, parent: str | None, where: Mapping[str, Any]) -> str:
    content = config.model_dump(mode="json", exclude_defaults=True, exclude={"imports"})
    if parent is not None:
        content["init"].pop("checkpoint")  # where the sweep's folder lies says nothing
    digest = hashlib.sha256(json.dumps([content, config.agent.name, parent], sort_keys=True).encode()).hexdigest()[:8]
    task = str(where["env"] or where["dataset"] or config.env or config.dataset).rsplit("/", 1)[-1]
    words = method_of(config.model_dump(mode="json")), task, f"s{config.seed}", digest
    return "-".join(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words)
