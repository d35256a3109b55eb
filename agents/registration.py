"""Which agents there are: balrl's own, and those of other packages. Imports no torch; an agent's class on first use."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union

from pydantic import Field

from balrl.agents.hyperparameters import (
    AWACConfig,
    BCConfig,
    CalQLConfig,
    CQLConfig,
    FastSACConfig,
    FQLConfig,
    IQLConfig,
    PPOConfig,
    QCConfig,
    ReBRACConfig,
    SACConfig,
    TD3BCConfig,
)
from balrl.agents.multi_objective_hyperparameters import MOIQLConfig, MOSACConfig, MOTD3BCConfig
from balrl.agents.recurrent_hyperparameters import RecurrentSACConfig
from balrl.agents.sequence_hyperparameters import DecisionTransformerConfig, RvSConfig
from balrl.config import AgentConfig

if TYPE_CHECKING:
    from balrl.agent import Agent

GROUP = "balrl.agents"
"""The entry points under which other packages name a `Registration` each."""


class Registration(NamedTuple):
    """One agent.

    Attributes:
        config: its configuration, whose `name` has the agent's name for its default.
        path: ``package.module:Class``, a subclass of `balrl.agent.Agent`.
    """

    config: type[AgentConfig]
    path: str

    @property
    def name(self) -> str:
        """What configurations call the agent."""
        return str(self.config.model_fields["name"].default)


OWN = (
    Registration(BCConfig, "balrl.agents.bc:BC"),
    Registration(IQLConfig, "balrl.agents.iql:IQL"),
    Registration(TD3BCConfig, "balrl.agents.td3bc:TD3BC"),
    Registration(ReBRACConfig, "balrl.agents.rebrac:ReBRAC"),
    Registration(AWACConfig, "balrl.agents.awac:AWAC"),
    Registration(FQLConfig, "balrl.agents.fql:FQL"),
    Registration(QCConfig, "balrl.agents.qc:QC"),
    Registration(SACConfig, "balrl.agents.sac:SAC"),
    Registration(FastSACConfig, "balrl.agents.fastsac:FastSAC"),
    Registration(CQLConfig, "balrl.agents.cql:CQL"),
    Registration(CalQLConfig, "balrl.agents.calql:CalQL"),
    Registration(PPOConfig, "balrl.agents.ppo:PPO"),
    Registration(MOSACConfig, "balrl.agents.mo_sac:MOSAC"),
    Registration(MOTD3BCConfig, "balrl.agents.mo_td3bc:MOTD3BC"),
    Registration(RecurrentSACConfig, "balrl.agents.recurrent_sac:RecurrentSAC"),
    Registration(DecisionTransformerConfig, "balrl.agents.decision_transformer:DecisionTransformer"),
    Registration(RvSConfig, "balrl.agents.rvs:RvS"),
    Registration(MOIQLConfig, "balrl.agents.mo_iql:MOIQL"),
)


@cache
def registrations() -> tuple[Registration, ...]:
    """Return balrl's own agents and those of installed packages; one that cannot be read is left out with a warning."""
    found = {own.name: own for own in OWN}
    for point in entry_points(group=GROUP):
        try:
            other = point.load()
            if not (isinstance(other, Registration) and issubclass(other.config, AgentConfig)):
                raise TypeError(f"it is {other!r}, expected a balrl.agents.registration.Registration")
            if other.name in found:
                raise ValueError(f"there is an agent '{other.name}' already")
            found[other.name] = other
        except Exception as error:  # somebody else's package must not keep balrl from starting
            warnings.warn(f"the agent '{point.name}' of {point.value} is left out: {error}", stacklevel=2)
    return tuple(found.values())


def agent_class(config: AgentConfig) -> type[Agent]:
    """Return the class of the agent that a configuration is of."""
    paths = {one.config: one.path for one in registrations()}
    if type(config) not in paths:
        raise TypeError(f"{type(config).__name__} is the configuration of no registered agent")
    module, _, name = paths[type(config)].partition(":")
    found: type[Agent] = getattr(import_module(module), name)
    return found


def config_union() -> Any:
    """Return the type of any registered agent's configuration, told apart by `name`."""
    return Annotated[Union[tuple(one.config for one in registrations())], Field(discriminator="name")]  # noqa: UP007
