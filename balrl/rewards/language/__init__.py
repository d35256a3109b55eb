"""Reward ensembles for language models: pairs of texts, members on a frozen encoder or as adapters, trainers' calls."""

from __future__ import annotations

from balrl.rewards.language.conservative_reward import ConservativeReward
from balrl.rewards.language.encoders import Encoder, Sentences, Transformer, WordLlama, make_encoder
from balrl.rewards.language.heads import HeadsReward
from balrl.rewards.language.lora import LoRAReward
from balrl.rewards.language.reward_of_texts import RewardOfTexts, load_reward
from balrl.rewards.language.texts import TextPairs, read_text_pairs

__all__ = [
    "ConservativeReward",
    "Encoder",
    "HeadsReward",
    "LoRAReward",
    "RewardOfTexts",
    "Sentences",
    "TextPairs",
    "Transformer",
    "WordLlama",
    "load_reward",
    "make_encoder",
    "read_text_pairs",
]
