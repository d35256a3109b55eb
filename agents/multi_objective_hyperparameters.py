"""Hyperparameters of the agents for several rewards. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from balrl.agents.hyperparameters import BalanceConfig, FixedBalance, IQLConfig, SACConfig, TD3BCConfig
from balrl.config import AgentConfig


class MultiObjectiveConfig(AgentConfig):
    """What agents for several rewards have beside their bases'."""

    objectives: int = Field(2, ge=2, description="how many rewards the task pays in a step")
    behaviour_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of logged rows in pre-training, that learn under the preference for which their episode was good; "
        "the others' are drawn from the simplex",
    )
    utopia: tuple[float, ...] | None = Field(
        None,
        description="point, in discounted returns, from which Chebyshev's utility min_i w_i (Q_i - z_i) is taken; "
        "default: the utility is linear",
    )

    @model_validator(mode="after")
    def _check_objectives(self) -> MultiObjectiveConfig:
        if self.utopia is not None and len(self.utopia) != self.objectives:
            raise ValueError(f"utopia has {len(self.utopia)} numbers, expected {self.objectives}, one per objective")
        if self.chunk_size != 1:
            raise ValueError("agents for several rewards learn from single steps; leave chunk_size at 1")
        return self


class MOSACConfig(MultiObjectiveConfig, SACConfig):
    """Soft actor-critic under every preference over several rewards."""

    name: Literal["mo-sac"] = "mo-sac"  # type: ignore[assignment]


class MOTD3BCConfig(MultiObjectiveConfig, TD3BCConfig):
    """TD3+BC under every preference over several rewards."""

    name: Literal["mo-td3bc"] = "mo-td3bc"  # type: ignore[assignment]
    balance: BalanceConfig = Field(FixedBalance(2.5), description="weight α of the normalised utility of Q")


class MOIQLConfig(MultiObjectiveConfig, IQLConfig):
    """Implicit Q-learning under every preference over several rewards."""

    name: Literal["mo-iql"] = "mo-iql"  # type: ignore[assignment]
