"""The whole configuration of a run, and the presets that ship with balrl."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from balrl.config import AgentConfig, Config, RunConfig
from balrl.errors import UserError, did_you_mean
from balrl.plain_yaml import dump_yaml, parse_yaml, read_config_file
from balrl.settings import override, validate

if TYPE_CHECKING:
    AnyAgentConfig = AgentConfig
else:
    from balrl.agents.registration import config_union

    AnyAgentConfig = config_union()


class HoldsAgent(Config):
    """Something that has an agent's hyperparameters."""

    agent: AnyAgentConfig


class TrainConfig(RunConfig):
    """A whole run: environment, data, agent, phases."""

    agent: AnyAgentConfig = Field(description="which algorithm, and its hyperparameters")


def preset_names() -> list[str]:
    """Return the names of the presets that balrl ships, such as ``iql/locomotion``."""
    root = resources.files("balrl.configs")
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """Return a preset's YAML, comments and sources included."""
    names = preset_names()
    if name not in names:
        raise UserError(f"no preset '{name}'{did_you_mean(name, names)}; presets: {', '.join(names)}")
    return resources.files("balrl.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def load_config(
    preset: str | None = None,
    file: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Build the configuration of a run from a preset or a YAML file, and dotted settings over it.

    Args:
        preset: a name of `preset_names`.
        file: a YAML file instead of a preset.
        settings: such as ``{"agent.expectile": 0.9, "seed": 3}``; text is YAML, as on the command line.

    Raises:
        UserError: for an unknown preset, key or value; the message names the nearest right one.
    """
    if (preset is None) == (file is None):
        raise UserError(f"give a preset or a configuration file; presets: {', '.join(preset_names())}")
    if file is not None:
        source, data = f"'{file}'", read_config_file(Path(file))
    else:
        source, data = f"preset {preset}", parse_yaml(preset_text(str(preset)), f"preset {preset}")
        data["preset"] = preset
    kind = _agent_name(data)
    if settings:
        data, source = override(data, settings), f"{source} with your settings"
        if _agent_name(data) != kind:
            data.pop("preset", None)  # another agent is another method
    return validate(TrainConfig, data, source)


def _agent_name(data: Mapping[str, Any]) -> Any:
    agent = data.get("agent")
    return agent.get("name") if isinstance(agent, Mapping) else None


def dump_config(config: TrainConfig) -> str:
    """Return a configuration as YAML that `load_config` reads back."""
    return dump_yaml(config.model_dump(mode="json"))
