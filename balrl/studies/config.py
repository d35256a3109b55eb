"""The protocol of an over-optimisation study."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from balrl.agents.config import PPOConfig
from balrl.config import Config, EnsembleConfig, FitConfig


class ObjectiveConfig(Config):
    """One objective, with the coefficients that it has under both optimisers."""

    objective: str = Field(description="single, mean, wco, uwo, softmin or quantile")
    best_of_n: float | None = Field(None, description="its coefficient there; default: its own")
    ppo: float | None = Field(None, description="and there")


class PreferenceConfig(Config):
    """What the reward models learn from: segments of the initial policy."""

    pairs: int = Field(1000, ge=2, description="of segments that begin in the same state")
    steps: int = Field(1, ge=1, description="of a segment")
    flips: tuple[float, ...] = Field((0.0, 0.25), description="shares of wrong labels to study")


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
    kl_coefficients: tuple[float, ...] = Field((0.0, 0.01, 0.1, 0.3), description="to study")


class StudyConfig(Config):
    """Everything about an over-optimisation study. The defaults take about an hour on two cores."""

    env: str = Field("balrl/Contextual-v0", description="a task of balrl's; its reward is the gold")
    env_kwargs: dict[str, Any] = Field({}, description="passed to it")
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), description="of initial policy, preferences, ensemble and PPO")
    device: str = Field("cpu", description="cpu, cuda, …")
    agent: PPOConfig = Field(
        PPOConfig(
            rollout_steps=4,
            epochs=4,
            hidden=(64, 64),
            initial_log_std=-1.2039728,
            policy_learning_rate=5e-5,
            value_learning_rate=1e-3,
        ),
        description="PPO; its first policy is the initial one",
    )
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
        description="by the name that tables and pictures show",
    )
