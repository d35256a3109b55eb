"""What a run takes over from a checkpoint: parameters by name and shape, their moments, the units of its rewards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.hyperparameters import StateAdaptiveBalance
from balrl.agents.registration import agent_class
from balrl.checkpoint import Carried, completed, find_checkpoint, load_state, load_tensors
from balrl.config import AgentConfig, InitConfig
from balrl.data.prepare import RewardTransform
from balrl.errors import UserError
from balrl.run.presets import TrainConfig
from balrl.settings import validate


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

    @property
    def agent_class(self) -> type[Agent]:
        """Of the agent that it is."""
        return agent_class(self.config)


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
        completed(load_tensors(checkpoint, "agent", required=True)),
        load_tensors(checkpoint, "optimizer"),
        RewardTransform(**state["rewards"]),
    )


def take_over(agent: Agent, source: Source, config: InitConfig) -> list[str]:
    """Copy the chosen parts of a source into an agent; return what was carried and what starts fresh, line by line.

    What there is to carry, both agents declare (`Agent.carried`). Tensors must agree in name and shape, but for what
    one algorithm has and another lacks (V, the temperature, a learned penalty weight), and for the number of critics
    where the configuration says how to fill the ensemble. Between agents of which neither is built on the other, such
    as from IQL to soft actor-critic, the optimisers start fresh: their moments mean something else.

    Raises:
        UserError: naming the first tensor that does not fit, with both shapes.
    """
    if config.parts == "neither":
        return [f"from {source.label}: nothing carried (init.parts=neither)"]
    everything = {piece.name: piece for piece in (*source.agent_class.carried, *agent.carried)}
    wanted_parts = config.parts.split("-and-")
    chosen = [piece for piece in everything.values() if piece.part in wanted_parts]
    if "policy" in wanted_parts:
        _check_policy(agent, source)
    ours = dict(agent.state_dict())
    new: dict[str, Tensor] = {name: source.tensors[name] for name in ("normalizer.mean", "normalizer.std")}
    _check_shapes(new, {name: ours[name] for name in new}, source)
    groups: dict[str, list[str]] = {"carried": [], "dropped": [], "fresh": []}
    filled: dict[str, Tensor] = {}
    for piece in sorted(chosen, key=lambda piece: piece.part != "policy"):
        theirs, wanted = _tensors_of(piece, source.tensors), _tensors_of(piece, ours)
        if not wanted and not theirs:
            continue
        seen = agent.is_family or isinstance(getattr(source.config, "balance", None), StateAdaptiveBalance)
        is_unseen = piece.name == "balance" and not seen  # a constraint's: no part of the policy
        if (piece.optional or is_unseen) and (not theirs or not wanted):
            groups["dropped" if theirs else "fresh"].append(piece.label)
            continue
        if piece.ensemble:
            theirs, extra = _fill(theirs, wanted, config, filled)
            if extra and not piece.name.startswith("target"):
                groups["fresh" if config.fill_critics == "fresh" else "carried"].append(
                    f"{extra} critics {'' if config.fill_critics == 'fresh' else 'replicated with noise'}".strip()
                )
        _check_shapes(theirs, wanted, source)
        groups["carried"].append(piece.label)
        new |= theirs
    if agent.averaged_policy is not None and "policy" in wanted_parts:
        theirs = {key: value for key, value in source.tensors.items() if key.split(".")[0].startswith("averaged")}
        _check_shapes(theirs, {key: ours[key] for key in theirs}, source)
        new |= theirs
    agent.load_state_dict(ours | new)
    if "policy" in wanted_parts and "averaged" not in new:
        agent.start_average()
    carries = config.optimizers == "carry" and bool(source.moments) and _is_related(agent, source)
    if carries:
        slots = {key: value for key, value in source.moments.items() if key.rsplit(":", 1)[0] in new}
        same = {key: value for key, value in slots.items() if _fits(key, source, agent)}
        agent.load_optimizer_state(same)
        if len(same) < len(slots):
            groups["fresh"].append("the filled critics' optimiser")
    groups["carried" if carries else "fresh"].append("optimisers")
    groups["fresh"] += [p.label for p in agent.carried if p not in chosen and _tensors_of(p, ours)]
    return [f"from {source.label} ({source.config.name}): " + _sentence(groups)]


def _sentence(groups: dict[str, list[str]]) -> str:
    clauses = [
        f"{', '.join(names)} {'start ' if kind == 'fresh' else ''}{kind}" for kind, names in groups.items() if names
    ]
    return "; ".join(clauses)


def _tensors_of(piece: Carried, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.split(".")[0] == piece.name}


def _is_related(agent: Agent, source: Source) -> bool:
    """Whether one of both algorithms is built on the other, so that their optimisers' moments mean the same."""
    return isinstance(agent, source.agent_class) or issubclass(source.agent_class, type(agent))


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
                f"{source.label} does not fit: {name} has shape {_shape(a)} there and {_shape(b)} here; "
                f"the networks must agree{hint}"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(shape)


def _check_policy(agent: Agent, source: Source) -> None:
    ours, theirs = agent.policy.kind, source.agent_class.policy_kind(source.config)
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
