"""Hyperparameters of the agents that are conditioned on returns. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from balrl.agents.hyperparameters import Rate, Widths
from balrl.config import AgentConfig


def _listed(target: Any) -> Any:
    return (target,) if isinstance(target, int | float) else target


class ReturnConditionedConfig(AgentConfig):
    """What agents that are asked for a return have in common."""

    objectives: int = Field(
        1, ge=1, description="how many rewards the task pays in a step; returns are vectors of them"
    )
    target_return: Annotated[tuple[float, ...] | None, BeforeValidator(_listed)] = Field(
        None,
        description="raw return to ask for when acting, one number per reward; default: the best in the data, under a "
        "preference what its best episodes of like preference return",
    )
    return_scale: float = Field(1e-3, gt=0, description="returns are multiplied by this before a network sees them")
    horizon: int = Field(1_000, ge=1, description="steps of an episode: times that are told apart")

    @model_validator(mode="after")
    def _check_target(self) -> ReturnConditionedConfig:
        if self.target_return is not None and len(self.target_return) != self.objectives:
            raise ValueError(f"target_return has {len(self.target_return)} numbers, expected {self.objectives}")
        if self.chunk_size != 1:
            raise ValueError(
                "agents that are conditioned on returns choose one action at a time; leave chunk_size at 1"
            )
        return self


class DecisionTransformerConfig(ReturnConditionedConfig):
    """Decision Transformer."""

    name: Literal["dt"] = "dt"
    sequence_length: int = Field(20, ge=2, description="K, steps that are looked at")
    width: int = Field(128, ge=1, description="of the embeddings")
    layers: int = Field(3, ge=1, description="of the transformer")
    heads: int = Field(1, ge=1, description="of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="of attention, residuals and embeddings, in training")
    learning_rate: Rate = Field(1e-4, description="Adam's step size")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled, per update times the step size")
    warmup_updates: int = Field(10_000, ge=1, description="over which the step size rises, linearly")
    max_gradient_norm: float = Field(0.25, gt=0, description="to which gradients are scaled down")
    immediate: int | None = Field(
        None, ge=1, description="weigh the mean reward of so many next steps against the long-term return, by state"
    )
    contrast: float = Field(0.0, ge=0, description="weight of the term that keeps embeddings of other returns apart")
    contrast_levels: int = Field(4, ge=2, description="of returns in a batch that are kept apart")
    contrast_temperature: float = Field(0.1, gt=0, description="of their similarity")

    @model_validator(mode="after")
    def _check_heads(self) -> DecisionTransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        return self


class RvSConfig(ReturnConditionedConfig):
    """RvS-R: supervised learning of actions, given the average return of the steps that are left."""

    name: Literal["rvs"] = "rvs"
    hidden: Widths = Field((1024, 1024), description="hidden layers of the policy")
    dropout: float = Field(0.0, ge=0, lt=1, description="of its hidden layers, in training")
    learning_rate: Rate = Field(1e-3, description="Adam's step size")
    hold_target: bool = Field(
        True,
        description="ask for the target over the horizon at every step, as released; off: for what is left of it over "
        "the steps that are left, which grows without bounds where the policy falls behind",
    )
