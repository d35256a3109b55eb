from __future__ import annotations

import pytest
import torch

from balrl.batch import Batch
from balrl.on_policy import RolloutBuffer
from balrl.random_stream import RandomStream


def vector_step(t: int, worlds: int = 3) -> Batch:
    """A step whose every number tells time and world."""
    x = torch.arange(worlds) + 10.0 * t
    return Batch(x[:, None].expand(-1, 2), -x[:, None], x, x[:, None].expand(-1, 2) + 1, x.long() % 4 == 0)


def filled(steps: int = 4, batch_size: int = 5, epochs: int = 3, valid: torch.Tensor | None = None) -> RolloutBuffer:
    rollouts = RolloutBuffer(steps, 3, 2, 1, epochs, batch_size)
    for t in range(steps):
        rollouts.add(vector_step(t), torch.tensor([t == 1, False, True]), None if t else valid)
    rollouts.store(rollouts.rewards + 1, rollouts.rewards + 2, rollouts.rewards + 3)
    return rollouts


def test_every_pass_draws_every_transition_at_most_once_in_an_order_of_its_own() -> None:
    rollouts, clock = filled(), torch.tensor(7)
    assert rollouts.is_full
    assert rollouts.shuffle(RandomStream(0), clock) == rollouts.batches == 3 * 2
    passes = []
    for _ in range(3):
        drawn = []
        for _ in range(2):
            batch = rollouts.batch(clock)
            clock += 1
            drawn += batch.rewards.tolist()
            for shift, name in enumerate(("log_probs", "advantages", "value_targets"), start=1):
                assert torch.equal(getattr(batch, name), batch.rewards + shift)
            assert torch.equal(batch.observations[:, 0], batch.rewards)
            assert torch.equal(batch.next_observations[:, 1], batch.rewards + 1)
            assert torch.equal(batch.terminated, batch.rewards.long() % 4 == 0)
        assert len(set(drawn)) == 10
        passes.append(tuple(drawn))
    assert len(set(passes)) == 3


def test_reset_rows_are_left_out() -> None:
    rollouts = filled(batch_size=4, valid=torch.tensor([True, False, False]))
    clock = torch.tensor(0)
    batches = rollouts.shuffle(RandomStream(0), clock)
    assert batches == 3 * 2  # 10 transitions are 2 batches of 4
    drawn = [x for i in range(batches) for x in rollouts.batch(clock + i).rewards.tolist()]
    assert not {1.0, 2.0} & set(drawn)


def test_a_stopped_rollout_goes_on() -> None:
    one, other = RolloutBuffer(4, 3, 2, 1, 1, 4), RolloutBuffer(4, 3, 2, 1, 1, 4)
    for t in range(2):
        one.add(vector_step(t), torch.tensor([False, True, False]))
    other.load_state_dict({k: v.clone() for k, v in one.state_dict().items()})
    for rollouts in (one, other):
        for t in range(2, 4):
            rollouts.add(vector_step(t), torch.tensor([True, False, False]))
    assert all(torch.equal(x, other.state_dict()[k]) for k, x in one.state_dict().items())


def test_a_full_rollout_takes_no_more_until_it_is_empty() -> None:
    rollouts = filled()
    with pytest.raises(ValueError, match="have their 4 steps"):
        rollouts.add(vector_step(4), torch.zeros(3, dtype=torch.bool))
    rollouts.clear()
    rollouts.add(vector_step(4), torch.zeros(3, dtype=torch.bool))
    assert rollouts.taken.rewards[0].tolist() == [40, 41, 42]
    assert not rollouts.is_full


def test_relabelling_reaches_the_steps_taken_so_far_and_each_in_its_place() -> None:
    rollouts = RolloutBuffer(4, 3, 2, 1, 1, 5)
    for t in range(3):
        rollouts.add(vector_step(t), torch.zeros(3, dtype=torch.bool))
    rollouts.relabel(lambda observations, actions: 2 * observations[:, 0] + actions[:, 0])
    expected = torch.stack([vector_step(t).rewards for t in range(3)])
    assert torch.equal(rollouts.rewards[:3], 2 * expected - expected)
    assert torch.equal(rollouts.rewards[3], torch.zeros(3))
