"""Transitions wait one step for their next actions."""

from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from balrl.batch import TRANSITION, Batch
from balrl.next_actions import NextActions
from tests.conftest import random_batch

WORLDS = 3


def vector_steps(count: int, seed: int) -> list[tuple[Batch, torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    found = []
    for _ in range(count):
        batch = random_batch(WORLDS)
        done = torch.rand(WORLDS) < 0.4
        plain = Batch(*(getattr(batch, name) for name in TRANSITION))._replace(terminated=done & (torch.rand(3) < 0.5))
        found.append((plain, done, torch.rand(WORLDS) < 0.8))
    return found


@settings(max_examples=30)
@given(count=st.integers(1, 8), stop=st.integers(0, 8), seed=st.integers(0, 1000))
def test_each_step_comes_out_one_later_with_the_actions_of_the_next(count: int, stop: int, seed: int) -> None:
    """Whatever ends, and wherever it is saved and loaded: the dataset's own convention, episode by episode."""
    steps, held, out = vector_steps(count, seed), NextActions(), []
    for index, (batch, done, valid) in enumerate(steps):
        if index == stop:
            state, held = held.state_dict(), NextActions()
            held.load_state_dict(state)
        got = held.add(batch, done, valid)
        assert (got is None) == (index == 0)
        out += [got] if got is not None else []
    for (batch, done, valid), got, (later, _, _) in zip(steps, out, steps[1:], strict=False):
        assert got is not None
        assert got.batch.next_actions is not None
        assert torch.equal(got.done, done)
        assert torch.equal(got.valid, valid)  # type: ignore[arg-type]
        for world in range(WORLDS):
            expected = batch.actions[world] if done[world] else later.actions[world]
            assert torch.equal(got.batch.next_actions[world], expected)
        for name in TRANSITION:
            assert torch.equal(getattr(got.batch, name), getattr(batch, name))


def test_a_learned_reward_that_changes_reaches_the_step_that_is_held() -> None:
    held = NextActions()
    held.relabel(lambda observations, actions: observations[:, 0])  # nothing is held yet
    (first, done, _), (second, _, _) = vector_steps(2, 0)
    held.add(first, done)
    held.relabel(lambda observations, actions: observations[:, 0] + actions[:, 1])
    got = held.add(second, done)
    assert got is not None
    assert torch.equal(got.batch.rewards, first.observations[:, 0] + first.actions[:, 1])


def test_a_new_beginning_holds_nothing() -> None:
    held = NextActions()
    assert held.state_dict() == {}
    (first, done, _), (second, _, _) = vector_steps(2, 1)
    held.add(first, done)
    held.load_state_dict({})
    assert held.add(second, done) is None
