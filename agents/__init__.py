"""The algorithms, one file each, in the order of their papers. Imported as ``balrl.agents``; torch on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from balrl.agents.registration import OWN

if TYPE_CHECKING:  # what the table in registration.py gives, for those who read instead of run
    from balrl.agent import Agent as Agent
    from balrl.agents.awac import AWAC as AWAC
    from balrl.agents.bc import BC as BC
    from balrl.agents.calql import CalQL as CalQL
    from balrl.agents.cql import CQL as CQL
    from balrl.agents.decision_transformer import DecisionTransformer as DecisionTransformer
    from balrl.agents.fastsac import FastSAC as FastSAC
    from balrl.agents.fql import FQL as FQL
    from balrl.agents.hyperparameters import (
        AWACConfig as AWACConfig,
        BCConfig as BCConfig,
        CalQLConfig as CalQLConfig,
        CQLConfig as CQLConfig,
        FastSACConfig as FastSACConfig,
        FixedBalance as FixedBalance,
        FQLConfig as FQLConfig,
        IQLConfig as IQLConfig,
        PPOConfig as PPOConfig,
        QCConfig as QCConfig,
        ReBRACConfig as ReBRACConfig,
        SACConfig as SACConfig,
        SelectiveBalance as SelectiveBalance,
        StateAdaptiveBalance as StateAdaptiveBalance,
        TD3BCConfig as TD3BCConfig,
    )
    from balrl.agents.iql import IQL as IQL
    from balrl.agents.mo_iql import MOIQL as MOIQL
    from balrl.agents.mo_sac import MOSAC as MOSAC
    from balrl.agents.mo_td3bc import MOTD3BC as MOTD3BC
    from balrl.agents.multi_objective_hyperparameters import (
        MOIQLConfig as MOIQLConfig,
        MOSACConfig as MOSACConfig,
        MOTD3BCConfig as MOTD3BCConfig,
    )
    from balrl.agents.ppo import PPO as PPO
    from balrl.agents.qc import QC as QC
    from balrl.agents.rebrac import ReBRAC as ReBRAC
    from balrl.agents.recurrent_hyperparameters import RecurrentSACConfig as RecurrentSACConfig
    from balrl.agents.recurrent_sac import RecurrentSAC as RecurrentSAC
    from balrl.agents.rvs import RvS as RvS
    from balrl.agents.sac import SAC as SAC
    from balrl.agents.sequence_hyperparameters import (
        DecisionTransformerConfig as DecisionTransformerConfig,
        RvSConfig as RvSConfig,
    )
    from balrl.agents.td3bc import TD3BC as TD3BC

_HOME = {
    "Agent": "balrl.agent",
    "FixedBalance": "balrl.agents.hyperparameters",
    "SelectiveBalance": "balrl.agents.hyperparameters",
    "StateAdaptiveBalance": "balrl.agents.hyperparameters",
    **{own.config.__name__: own.config.__module__ for own in OWN},
    **{name: module for module, _, name in (own.path.partition(":") for own in OWN)},
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'balrl.agents' has no attribute '{name}'; it has {__all__}")
