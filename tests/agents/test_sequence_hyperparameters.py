"""Hyperparameters of the agents that are conditioned on returns."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from balrl.agents import DecisionTransformerConfig, RvSConfig


def test_published_settings_are_the_defaults() -> None:
    c = DecisionTransformerConfig()
    assert (c.sequence_length, c.layers, c.heads, c.width, c.dropout) == (20, 3, 1, 128, 0.1)
    assert (c.learning_rate, c.weight_decay, c.warmup_updates, c.max_gradient_norm) == (1e-4, 1e-4, 10_000, 0.25)
    assert (RvSConfig().hidden, RvSConfig().dropout) == ((1024, 1024), 0)


@pytest.mark.parametrize("kind", [DecisionTransformerConfig, RvSConfig])
def test_chunks_and_targets_of_another_size_are_refused(kind: type) -> None:
    with pytest.raises(ValidationError, match="one action at a time"):
        kind(chunk_size=2)
    with pytest.raises(ValidationError, match="target_return has 3 numbers, expected 2"):
        kind(objectives=2, target_return=(1.0, 2.0, 3.0))


def test_a_target_of_one_reward_is_a_number() -> None:
    assert RvSConfig(target_return=3600).target_return == (3600.0,)
    assert DecisionTransformerConfig(target_return=[1.0]).target_return == (1.0,)
