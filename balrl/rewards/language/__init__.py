"""Reward ensembles for language models: pairs of texts, members on a frozen encoder or as adapters, trainers' calls."""

from __future__ import annotations

from balrl.rewards.language.conservative_reward import ConservativeReward
from balrl.rewards.language.encoders import Encoder, Sentences, Transformer, WordLlama, make_encoder
from balrl.rewards.language.heads import HeadsReward
from balrl.rewards.language.lora import LoRAReward
from balrl.rewards.language.reward_of_texts import RewardOfTexts, load_reward
from balrl.rewards.language.step_losses import advantage_weights, step_preference_loss, weighted_likelihood_loss
from balrl.rewards.language.step_pairs import StepPair, step_pairs
from balrl.rewards.language.step_sampling import CausalSampler
from balrl.rewards.language.step_training import StepTokens, fit_step_pairs, fit_weighted, tokenize_steps
from balrl.rewards.language.steps import SteppedAnswer, split_lines, step_advantages
from balrl.rewards.language.texts import TextPairs, read_text_pairs

__all__ = [
    "CausalSampler",
    "ConservativeReward",
    "Encoder",
    "HeadsReward",
    "LoRAReward",
    "RewardOfTexts",
    "Sentences",
    "StepPair",
    "StepTokens",
    "SteppedAnswer",
    "TextPairs",
    "Transformer",
    "WordLlama",
    "advantage_weights",
    "fit_step_pairs",
    "fit_weighted",
    "load_reward",
    "make_encoder",
    "read_text_pairs",
    "split_lines",
    "step_advantages",
    "step_pairs",
    "step_preference_loss",
    "tokenize_steps",
    "weighted_likelihood_loss",
]
