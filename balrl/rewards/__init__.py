"""Rewards learned from preferences, and how not to be fooled by them."""

from __future__ import annotations

from balrl.config import FitConfig
from balrl.conservative_objectives import OBJECTIVES, conservative
from balrl.rewards.best_of_n import expected_best_of_n, kl_of_best_of_n
from balrl.rewards.ensemble import RewardEnsemble
from balrl.rewards.ensemble_training import fit_ensemble, quality
from balrl.rewards.preferences import Preferences
from balrl.rewards.queries import ask
from balrl.rewards.reward import LearnedReward
from balrl.rewards.teacher import Teacher

__all__ = [
    "OBJECTIVES",
    "FitConfig",
    "LearnedReward",
    "Preferences",
    "RewardEnsemble",
    "Teacher",
    "ask",
    "conservative",
    "expected_best_of_n",
    "fit_ensemble",
    "kl_of_best_of_n",
    "quality",
]
