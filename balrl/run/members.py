"""Which runs make up a population: seeds, and numbers that differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from balrl.errors import UserError
from balrl.run.presets import TrainConfig
from balrl.settings import override, validate


def member_configs(
    config: TrainConfig, seeds: Iterable[int], vary: Mapping[str, Sequence[str]] | None = None
) -> dict[str, TrainConfig]:
    """Return the members' configurations by name, such as ``expectile0.9-s3``: every combination.

    Args:
        config: of all.
        seeds: at least one.
        vary: values (YAML) of settings that are numbers of the agent, such as ``{"agent.expectile": ["0.7", "0.9"]}``.

    Raises:
        UserError: for a setting that members of a population cannot differ in, or fewer than two members.
    """
    vary = vary or {}
    members: dict[str, TrainConfig] = {}
    for values in itertools.product(*vary.values()):
        settings = dict(zip(vary, values, strict=True))
        label = "".join(f"{key.rsplit('.', 1)[-1]}{value}-" for key, value in settings.items())
        for seed in seeds:
            data = override(config.model_dump(mode="json"), {**settings, "seed": str(seed)})
            members[f"{label}s{seed}"] = validate(TrainConfig, data, "your settings")
    if any(one == other for one, other in itertools.combinations(members.values(), 2)):
        raise UserError("the population has the same member twice: --vary names equal values")
    if len(members) < 2:
        raise UserError(f"a population has at least 2 members, this one has {len(members)}; drop --seeds, or name more")
    for key in vary:
        for member in members.values():
            _check_number(member, key)
    return members


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``0:8`` (0 to 7) or ``0,3,11``."""
    try:
        first, colon, end = text.partition(":")
        seeds = list(range(int(first or 0), int(end))) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds is '{text}', expected a range such as 0:8 (0 to 7) or a list such as 0,3,11")
    return seeds


def parse_vary(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return what ``["agent.expectile=0.7,0.9"]`` asks for."""
    vary = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not all(values.split(",")):
            raise UserError(f"--vary is '{text}', expected KEY=VALUE,VALUE,… such as agent.expectile=0.7,0.8,0.9")
        vary[key.replace("-", "_")] = values.split(",")
    return vary


def _check_number(config: TrainConfig, key: str) -> None:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    if not key.startswith("agent.") or not isinstance(value, float) or key.endswith("dropout"):
        raise UserError(
            f"members of a population cannot differ in {key}, only in real numbers of the agent (agent.discount, "
            "agent.balance.coefficient, learning rates, …); run balrl train once for each value"
        )
