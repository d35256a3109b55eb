"""The protocol of an over-optimisation study."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from balrl.agents.hyperparameters import PPOConfig
from balrl.config import Config, EnsembleConfig, FitConfig, Objective


class ObjectiveConfig(Config):
    """One objective, with the coefficients that it has under both optimisers."""

    objective: Objective = Field(description="of the members' scores")
    best_of_n: float | None = Field(None, description="its coefficient there; default: its own")
    ppo: float | None = Field(None, description="and there")


class PreferenceConfig(Config):
    """What the reward models learn from: segments of the initial policy."""

    pairs: int = Field(1000, ge=2, description="of segments that begin in the same state")
    steps: int = Field(1, ge=1, description="of a segment")
    flips: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.25), min_length=1, description="shares of wrong labels to study"
    )


class RewardModelsConfig(FitConfig, EnsembleConfig):
    """The reward models: small, for tasks that take seconds."""

    hidden: tuple[int, ...] = Field((64, 64), min_length=1, description="widths of each")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size")
    epochs: int = Field(60, ge=1, description="passes over the pairs, at most")


class BestOfNConfig(Config):
    """Best-of-n."""

    states: int = Field(100, ge=1, description="first states")
    samples: int = Field(12_500, ge=1, description="trajectories from each; n goes up to this")


class OptimizeConfig(Config):
    """PPO on the learned reward."""

    num_envs: int = Field(256, ge=1, description="worlds")
    batch_size: int = Field(256, ge=1, description="transitions of an update")
    rollouts: int = Field(150, ge=1, description="of `agent.rollout_steps` steps")
    kl_coefficients: tuple[Annotated[float, Field(ge=0)], ...] = Field((0.0, 0.01, 0.1, 0.3), description="to study")


AGENT = PPOConfig(
    rollout_steps=4,
    epochs=4,
    hidden=(64, 64),
    initial_log_std=-1.2039728,
    policy_learning_rate=5e-5,
    value_learning_rate=1e-3,
)


class StudyConfig(Config):
    """Everything about an over-optimisation study. The defaults take about an hour on two cores."""

    env: str = Field("balrl/Contextual-v0", description="a task of balrl's; its reward is the gold")
    env_kwargs: dict[str, Any] = Field({}, description="passed to it")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="of initial policy, preferences, ensemble and PPO"
    )
    device: str = Field("cpu", description="cpu, cuda, …")
    agent: PPOConfig = Field(AGENT, description="PPO; its first policy is the initial one")
    start_steps: int = Field(0, ge=0, description="environment steps of PPO on the gold that make the initial policy")
    preferences: PreferenceConfig = PreferenceConfig()
    ensemble: RewardModelsConfig = RewardModelsConfig()
    best_of_n: BestOfNConfig = BestOfNConfig()
    ppo: OptimizeConfig = OptimizeConfig()
    objectives: dict[str, ObjectiveConfig] = Field(
        {
            "single": ObjectiveConfig(objective="single"),
            "mean": ObjectiveConfig(objective="mean"),
            "WCO": ObjectiveConfig(objective="wco"),
            "UWO": ObjectiveConfig(objective="uwo", best_of_n=0.5, ppo=0.1),
            "soft-min": ObjectiveConfig(objective="softmin", best_of_n=1.0, ppo=0.2),
        },
        min_length=1,
        description="by the name that tables and pictures show",
    )

    @field_validator("agent", mode="before")
    @classmethod
    def _over_the_study_s_own(cls, given: Any) -> Any:
        return {**AGENT.model_dump(), **given} if isinstance(given, dict) else given

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is there twice")
        return seeds
