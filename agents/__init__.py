"""The algorithms, one file each, in the order of their papers. Imported as ``balrl.agents``; torch on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from balrl.agents.config import (
    BCConfig,
    CalQLConfig,
    CQLConfig,
    FixedBalance,
    IQLConfig,
    PPOConfig,
    SACConfig,
    StateAdaptiveBalance,
)

if TYPE_CHECKING:
    from balrl.agent import Agent
    from balrl.agents.bc import BC
    from balrl.agents.calql import CalQL
    from balrl.agents.cql import CQL
    from balrl.agents.iql import IQL
    from balrl.agents.ppo import PPO
    from balrl.agents.sac import SAC

__all__ = [
    "BC",
    "CQL",
    "IQL",
    "PPO",
    "SAC",
    "Agent",
    "BCConfig",
    "CQLConfig",
    "CalQL",
    "CalQLConfig",
    "FixedBalance",
    "IQLConfig",
    "PPOConfig",
    "SACConfig",
    "StateAdaptiveBalance",
]

_MODULES = {"BC": "bc", "CQL": "cql", "CalQL": "calql", "IQL": "iql", "PPO": "ppo", "SAC": "sac"}


def __getattr__(name: str) -> Any:
    if name == "Agent":
        return import_module("balrl.agent").Agent
    if name in _MODULES:
        return getattr(import_module(f"balrl.agents.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'balrl.agents' has no attribute '{name}'; it has {__all__}")
