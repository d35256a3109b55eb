"""Hyperparameters of the recurrent agent. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from balrl.agents.hyperparameters import BalanceConfig, FixedBalance, SoftActorCriticConfig


class RecurrentSACConfig(SoftActorCriticConfig):
    """Soft actor-critic that remembers the episode, and imitates demonstrations where they are better."""

    name: Literal["recurrent-sac"] = "recurrent-sac"
    sequence_length: int = Field(64, ge=2, description="steps of a window that is learned from")
    burn_in: int = Field(
        16, ge=0, description="its first steps, which warm the memory up and are not learned from themselves"
    )
    memory: int = Field(128, ge=1, description="width of the policy's and of the critics' memory")
    previous_reward: bool = Field(False, description="the memory sees the last reward beside the last action")
    imitation: Literal["none", "filtered", "all"] = Field(
        "none",
        description="of the logged data's actions: none; where Q says that they are better than the policy's "
        "(Q-filter); or everywhere",
    )
    balance: BalanceConfig = Field(
        FixedBalance(1.0), description="of improvement against imitation, whose weight is 1 over this"
    )
    policy: Literal["tanh-gaussian"] = Field("tanh-gaussian", description="squashed")

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        if self.burn_in >= self.sequence_length:
            raise ValueError(f"burn_in {self.burn_in} leaves nothing of {self.sequence_length} steps to learn from")
        if self.chunk_size != 1:
            raise ValueError("recurrent-sac looks at every step; leave chunk_size at 1")
        if self.anchor:
            raise ValueError("recurrent-sac has no anchor; leave it at 0")
        if self.imitation == "none" and self.balance != FixedBalance(1.0):
            raise ValueError("the balance weighs imitation, which is off: set imitation=filtered, or leave balance out")
        return self
