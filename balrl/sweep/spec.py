"""What a person writes in a sweep's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from balrl.config import Config
from balrl.errors import UserError, shorten
from balrl.plain_yaml import read_config_file
from balrl.run.members import parse_seeds
from balrl.settings import validate


class Range(Config):
    """A range that values of a setting are sampled from."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="uniform in the logarithm")
    whole: bool = Field(False, description="whole numbers")

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}, expected low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}, expected more than 0 on a logarithmic scale")
        return self


class Choices(Config):
    """Values of a setting that are sampled from."""

    choices: list[Any] = Field(min_length=1, description="of which one is taken")


Axis = Range | Choices | list[Any]
"""What one setting is varied over."""


class SearchConfig(Config):
    """Trials that a search engine proposes, one after another, each judged over all seeds."""

    engine: Literal["optuna"] = Field("optuna", description="who proposes the values")
    trials: int = Field(20, ge=1, description="values that are tried, over all seeds, datasets and tasks each")
    metric: Literal["final", "best"] = Field("final", description="score of a run: its last or its best evaluation's")
    batch: int = Field(4, ge=1, description="trials at a time; the sampler learns from those that are over")
    sampler: Literal["tpe", "gp", "cmaes", "random"] = Field("tpe", description="Optuna's")
    pruner: Literal["none", "median", "wilcoxon"] = Field(
        "none",
        description="give a trial up when its first seeds are worse: than the median trial's mean after as many, or "
        "than the best trial's own seeds by Wilcoxon's test",
    )
    seed: int = Field(0, ge=0, description="of the sampler")


def _labelled(value: Any) -> Any:
    """Turn a list of names into a mapping of entries."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    return value


def _seeds(value: Any) -> Any:
    try:
        return parse_seeds(str(value)) if isinstance(value, str | int) else value
    except UserError as error:
        raise ValueError("expected a range such as 0:8 (0 to 7) or a list such as [0, 3, 11]") from error


def _vary(value: Any) -> Any:
    """Tell a list of combinations from settings with what each is varied over."""
    if isinstance(value, list):
        if not value or not all(isinstance(one, dict) and one for one in value):
            raise ValueError("expected every combination to be a mapping of settings to values")
        return value
    if not isinstance(value, dict):
        raise ValueError("expected settings with what each is varied over, or a list of combinations")
    return {str(key): _axis(str(key), axis) for key, axis in value.items()}


def _axis(key: str, axis: Any) -> Axis:
    if isinstance(axis, list) and axis:
        return axis
    if not isinstance(axis, dict):
        raise ValueError(
            f"{key} is {shorten(axis)}, expected a list of values, {{low: …, high: …}} or {{choices: […]}}"
        )
    kind: type[Choices] | type[Range] = Choices if "choices" in axis else Range
    try:
        return validate(kind, axis, key)
    except UserError as error:
        raise ValueError(str(error)) from error


Entries = Annotated[dict[str, dict[str, Any]], BeforeValidator(_labelled)]
"""Labels and their dotted settings; a list of names is a mapping of names to nothing."""


class SweepConfig(Config):
    """Every preset with every dataset, task, combination of varied settings, and seed.

    Where a setting is given more than once, the later of settings, dataset, task, preset and varied settings holds.
    A run that starts `from` another pre-trains no more, and what it starts from does nothing but that, unless their own
    entries say otherwise.
    """

    presets: Entries = Field(
        min_length=1,
        description="names of presets, or labels with dotted settings; `preset` or `config` names what a label is made "
        "of, `from` the pre-training that it starts from",
    )
    pretrain: Entries = Field(
        {}, description="labels as in presets, of runs that are made once for all that start `from` them"
    )
    datasets: Entries = Field({}, description="paths or names, or labels with dotted settings such as `dataset`")
    envs: Entries = Field({}, description="Gymnasium ids, or labels with dotted settings such as `env`")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        (0,), min_length=1, description="0:8 for 0 to 7, or a list"
    )
    settings: dict[str, Any] = Field({}, description="dotted settings of all runs")
    vary: Annotated[dict[str, Any] | list[dict[str, Any]], PlainValidator(_vary)] = Field(
        {},
        description="dotted settings with lists of values, each with each; or with {low, high, log, whole} or "
        "{choices} to sample from; or a list of combinations",
    )
    samples: int = Field(0, ge=0, description="of what is sampled from, together")
    sampler: Literal["random", "sobol"] = Field("random", description="of those samples")
    sampler_seed: int = Field(0, ge=0, description="of those samples")
    search: SearchConfig | None = Field(None, description="let an engine propose values from `vary` instead")

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        sampled = [key for key, axis in self.axes.items() if isinstance(axis, Range | Choices)]
        if sampled and not self.samples and self.search is None:
            raise ValueError(f"vary samples {', '.join(sampled)}: say how many samples, or add search")
        if self.samples and not sampled:
            raise ValueError("samples is set, but vary has nothing to sample from, such as {low: 1, high: 10}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has one twice: {list(self.seeds)}")
        if "seed" in self.settings:
            raise ValueError("settings has a seed, which would be every run's: use seeds")
        if self.search is not None and (self.samples or not self.axes):
            raise ValueError("search proposes values of vary by itself: give vary settings, and leave samples out")
        for label, entry in self.presets.items():
            parent = entry.get("from")
            if parent is not None and parent not in self.pretrain:
                raise ValueError(
                    f"presets: {label} is from '{parent}', expected one of pretrain: {list(self.pretrain)}"
                )
        return self

    @property
    def axes(self) -> Mapping[str, Axis]:
        """What is varied by setting; nothing where combinations are listed."""
        return self.vary if isinstance(self.vary, dict) else {}


def read_sweep(file: Path) -> SweepConfig:
    """Read a sweep's file.

    Raises:
        UserError: naming the first mistake.
    """
    return validate(SweepConfig, read_config_file(file), f"'{file}'")
