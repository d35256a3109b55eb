"""Which row follows on which: inside episodes, over the ring's seam, in several worlds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.linked_replay import LinkedReplay
from balrl.next_actions import VectorStep


def rows(numbers: list[int]) -> Batch:
    """Transitions that are told apart by their number."""
    n = torch.tensor(numbers, dtype=torch.float32)
    return Batch(n[:, None], n[:, None] / 100, n, n[:, None] + 0.5, torch.zeros(len(numbers), dtype=torch.bool))


def numbers(replay: LinkedReplay, row: int, steps: int) -> tuple[list[float], list[int]]:
    found, there = replay.follow(torch.tensor([row]), steps)
    return replay.transitions(found[:, 0]).rewards.tolist(), there[:, 0].tolist()


def test_an_episode_s_end_is_not_crossed() -> None:
    replay = LinkedReplay(5, 1, 1)
    replay.add(rows([0, 1, 2, 3, 4]), torch.tensor([False, True, False, False, True]))
    assert numbers(replay, 0, 4) == ([0, 1, 1, 1], [1, 1, 0, 0])
    assert numbers(replay, 2, 3) == ([2, 3, 4], [1, 1, 1])
    assert numbers(replay, 4, 2) == ([4, 4], [1, 0])


def test_steps_of_several_worlds_follow_their_own_over_the_seam() -> None:
    """Two worlds in a ring of five rows: rows are overwritten from the beginning, links go round."""
    replay = LinkedReplay(5, 1, 1, num_envs=2)
    none = torch.zeros(2, dtype=torch.bool)
    for first in (0, 10, 20):
        replay.add_step(VectorStep(rows([first, first + 1]), none, None))
    assert replay.storage[:, 2].tolist() == [21, 1, 10, 11, 20]
    assert numbers(replay, 2, 3) == ([10, 20, 20], [1, 1, 0])
    assert numbers(replay, 3, 2) == ([11, 21], [1, 1])
    replay.add_step(VectorStep(rows([30, 31]), torch.tensor([True, False]), None))
    assert numbers(replay, 4, 3)[0] == [20, 30, 30]
    replay.add_step(VectorStep(rows([40, 41]), none, None))
    assert 40 not in numbers(replay, (replay.cursor - 4) % 5, 3)[0]  # the episode of 30 had ended


def test_cut_worlds_begin_anew_and_a_state_goes_on() -> None:
    one = LinkedReplay(8, 1, 1, num_envs=1)
    none = torch.zeros(1, dtype=torch.bool)
    one.add_step(VectorStep(rows([0]), none, None))
    other = LinkedReplay(8, 1, 1, num_envs=1)
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    one.cut()
    for replay in (one, other):
        replay.add_step(VectorStep(rows([1]), none, None))
    assert numbers(one, 0, 2) == ([0, 0], [1, 0])
    assert numbers(other, 0, 2) == ([0, 1], [1, 1])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 7))
def test_following_stays_in_the_episode(lengths: list[int], steps: int) -> None:
    total = sum(lengths)
    ends = torch.zeros(total, dtype=torch.bool)
    ends[torch.tensor(lengths).cumsum(0) - 1] = True
    episode = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    replay = LinkedReplay(max(2, total), 1, 1)
    replay.add(rows(list(range(total))), ends)
    found, there = replay.follow(torch.arange(total), steps)
    assert (episode[found] == episode).all()
    last = torch.tensor(lengths).cumsum(0)[episode] - 1
    expected = torch.minimum(torch.arange(total) + torch.arange(steps)[:, None], last)
    assert torch.equal(found, expected)
    assert torch.equal(there.bool(), torch.arange(total) + torch.arange(steps)[:, None] <= last)


def test_too_small_a_ring_is_refused() -> None:
    with pytest.raises(UserError, match="expected at least 6 for runs of steps in 3 worlds"):
        LinkedReplay(5, 1, 1, num_envs=3)
