"""What a run takes over from a checkpoint: parameters by name and shape, their moments, the units of its rewards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.config import AgentConfig, BCConfig, IQLConfig, StateAdaptiveBalance
from balrl.checkpoint import find_checkpoint, load_state, load_tensors
from balrl.config import InitConfig, validate
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.run.presets import TrainConfig

PARTS = {
    "policy": ("policy", "balance", "log_temperature"),
    "critic": ("critic", "target_critic", "value", "raw_alpha"),
}
OPTIONAL = ("log_temperature", "value", "raw_alpha")
"""What one algorithm has and another lacks: taken over where both have it, else left out or fresh."""
NAMES = {
    "policy": "policy",
    "balance": "balance model",
    "log_temperature": "temperature",
    "critic": "critics",
    "target_critic": "target critics",
    "value": "V",
    "raw_alpha": "penalty weight",
}


@dataclass(frozen=True)
class Source:
    """What there is to take over.

    Attributes:
        label: where it came from, for messages.
        config: of the agent that it is.
        tensors: parameters and buffers, under an agent's names.
        moments: of its optimisers, as `Agent.optimizer_state` gives them; empty if there are none.
        rewards: the units that its critics speak; None if unknown.
    """

    label: str
    config: AgentConfig
    tensors: dict[str, Tensor]
    moments: dict[str, Tensor]
    rewards: RewardTransform | None = None


def read_source(path: str) -> Source:
    """Read a run, a checkpoint or a stable-baselines3 SAC zip. Nothing is unpickled.

    Raises:
        UserError: when it is none of these.
    """
    if Path(path).is_file():
        from balrl.run.sb3 import read_sac_zip

        return Source(f"'{path}'", *read_sac_zip(Path(path)), moments={})
    checkpoint = find_checkpoint(Path(path))
    state = load_state(checkpoint)
    config = validate(TrainConfig, state["config"], f"checkpoint '{checkpoint}'").agent
    return Source(
        f"'{checkpoint}'",
        config,
        load_tensors(checkpoint, "agent", required=True),
        load_tensors(checkpoint, "optimizer"),
        RewardTransform(**state["rewards"]),
    )


def take_over(agent: Agent, source: Source, config: InitConfig) -> list[str]:
    """Copy the chosen parts of a source into an agent; return what was carried and what starts fresh, line by line.

    Tensors must agree in name and shape, but for what one algorithm has and another lacks (V, the temperature, a
    learned penalty weight), and for the number of critics where the configuration says how to fill the ensemble.
    From IQL to soft actor-critic the optimisers start fresh.

    Raises:
        UserError: naming the first tensor that does not fit, with both shapes.
    """
    if config.parts == "neither":
        return [f"from {source.label}: nothing carried (init.parts=neither)"]
    prefixes = [p for part, names in PARTS.items() if part in config.parts.split("-and-") for p in names]
    if "policy" in prefixes:
        _check_policy(agent, source)
    ours = dict(agent.state_dict())
    new: dict[str, Tensor] = {name: source.tensors[name] for name in ("normalizer.mean", "normalizer.std")}
    _check_shapes(new, {name: ours[name] for name in new}, source)
    groups: dict[str, list[str]] = {"carried": [], "dropped": [], "fresh": []}
    filled: dict[str, Tensor] = {}
    for prefix in prefixes:
        theirs = {k: v for k, v in source.tensors.items() if k.split(".")[0] == prefix}
        wanted = {k: v for k, v in ours.items() if k.split(".")[0] == prefix}
        if not wanted and not theirs:
            continue
        if prefix in OPTIONAL and (not theirs or not wanted):
            groups["dropped" if theirs else "fresh"].append(NAMES[prefix])
            continue
        if prefix in ("critic", "target_critic"):
            theirs, extra = _fill(theirs, wanted, config, filled)
            if extra and prefix == "critic":
                groups["fresh" if config.fill_critics == "fresh" else "carried"].append(
                    f"{extra} critics {'' if config.fill_critics == 'fresh' else 'replicated with noise'}".strip()
                )
        _check_shapes(theirs, wanted, source)
        groups["carried"].append(NAMES[prefix])
        new |= theirs
    agent.load_state_dict(ours | new)
    carries = config.optimizers == "carry" and bool(source.moments) and not _is_conversion(agent, source)
    if carries:
        slots = {key: value for key, value in source.moments.items() if key.rsplit(":", 1)[0] in new}
        same = {key: value for key, value in slots.items() if _fits(key, source, agent)}
        agent.load_optimizer_state(same)
        if len(same) < len(slots):
            groups["fresh"].append("the filled critics' optimiser")
    groups["carried" if carries else "fresh"].append("optimisers")
    untouched = [NAMES[p] for names in PARTS.values() for p in names if p not in prefixes and _has(ours, p)]
    groups["fresh"] += untouched
    return [f"from {source.label} ({source.config.name}): " + _sentence(groups)]


def _sentence(groups: dict[str, list[str]]) -> str:
    parts = [
        f"{', '.join(names)} {'start ' if kind == 'fresh' else ''}{kind}" for kind, names in groups.items() if names
    ]
    return "; ".join(parts)


def _has(state: dict[str, Tensor], prefix: str) -> bool:
    return any(key.split(".")[0] == prefix for key in state)


def _is_conversion(agent: Agent, source: Source) -> bool:
    """Whether the source is of another family of algorithms, whose moments mean something else."""
    return isinstance(source.config, IQLConfig | BCConfig) and type(source.config) is not type(agent.config)


def _fits(key: str, source: Source, agent: Agent) -> bool:
    """Whether an optimiser's slot belongs to a parameter that was taken over as it was."""
    name = key.rsplit(":", 1)[0]
    return agent.get_parameter(name).shape == source.tensors[name].shape


def _fill(
    theirs: dict[str, Tensor], wanted: dict[str, Tensor], config: InitConfig, noise: dict[str, Tensor]
) -> tuple[dict[str, Tensor], int]:
    """Return an ensemble's tensors with as many members as wanted, and how many were added."""
    found, added = dict(theirs), 0
    if config.fill_critics == "none":
        return found, 0
    for key, mine in wanted.items():
        other = theirs.get(key)
        if other is None or other.shape[1:] != mine.shape[1:] or other.shape[0] >= mine.shape[0]:
            continue
        added = mine.shape[0] - other.shape[0]
        extra = mine[other.shape[0] :].cpu()
        if config.fill_critics == "replicate":
            extra = other[torch.arange(added) % other.shape[0]]
            name = key.split(".", 1)[1]  # a target critic gets its critic's noise
            noise.setdefault(name, torch.randn(extra.shape) * float(other.std(correction=0)))
            extra = extra + config.replicate_noise * noise[name]
        found[key] = torch.cat([other, extra])
    return found, added


def _check_shapes(theirs: dict[str, Tensor], ours: dict[str, Tensor], source: Source) -> None:
    for name in {**theirs, **ours}:
        a, b = (tuple(x[name].shape) if name in x else None for x in (theirs, ours))
        if a != b:
            hint = ""
            if a and b and name.split(".")[0].endswith("critic") and a[1:] == b[1:]:
                hint = f"; set agent.critics={a[0]}, or init.fill_critics=replicate"
            elif "norms" in name:
                hint = "; set agent.layer_norm (critics) or agent.policy_layer_norm to what the checkpoint has"
            raise UserError(
                f"{source.label} does not fit: {name} has shape {a or 'none'} there and {b or 'none'} here; "
                f"the networks must agree{hint}"
            )


def _check_policy(agent: Agent, source: Source) -> None:
    ours, theirs = _policy_kind(agent.config), _policy_kind(source.config)
    if ours != theirs:
        raise UserError(f"{source.label} has a {theirs} policy, this run's is {ours}; set agent.policy={theirs}")
    mine, other = (getattr(c, "balance", None) for c in (agent.config, source.config))
    if isinstance(mine, StateAdaptiveBalance) and isinstance(other, StateAdaptiveBalance):
        a, b = (other.minimum, other.maximum), (mine.minimum, mine.maximum)
        if a != b:
            raise UserError(
                f"{source.label} is a family over balances {a}, this run's is over {b}; set agent.balance.minimum and "
                "agent.balance.maximum to the checkpoint's"
            )


def _policy_kind(config: Any) -> str:
    return str(getattr(config, "policy", "gaussian"))
