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


def before(replay: LinkedReplay, row: int, steps: int, most: int = 9) -> float:
    found = replay.precede(torch.tensor([row]), torch.tensor([steps]), most)
    return float(replay.transitions(found).rewards)


def test_steps_before_a_row_are_its_own_world_s_and_none_that_is_overwritten() -> None:
    replay = LinkedReplay(5, 1, 1, num_envs=2)
    none = torch.zeros(2, dtype=torch.bool)
    for first in (0, 10, 20):
        replay.add_step(VectorStep(rows([first, first + 1]), none, None))
    assert [before(replay, 4, steps) for steps in (0, 1, 2)] == [20, 10, 10]  # 0 is overwritten
    assert [before(replay, 0, steps) for steps in (1, 2, 3)] == [11, 1, 1]
    assert before(replay, 0, 2, most=1) == 11
    replay.add_step(VectorStep(rows([30, 31]), torch.tensor([True, False]), None))
    replay.add_step(VectorStep(rows([40, 41]), none, None))
    assert before(replay, (replay.cursor - 2) % 5, 3) == 40  # begins an episode
    assert before(replay, (replay.cursor - 1) % 5, 1) == 31


def test_steps_before_a_row_are_known_of_one_that_is_read_back_and_of_valid_steps_alone() -> None:
    one = LinkedReplay(6, 1, 1, num_envs=2)
    none = torch.zeros(2, dtype=torch.bool)
    for first, valid in ((0, [True, True]), (10, [False, True]), (20, [True, True]), (30, [True, True])):
        one.add_step(VectorStep(rows([first, first + 1]), none, torch.tensor(valid)))
    other = LinkedReplay(6, 1, 1, num_envs=2)
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    for replay in (one, other):
        found = {float(replay.storage[row, 2]): before(replay, row, 1) for row in range(6)}
        assert found == {30: 20, 31: 21, 20: 20, 21: 11, 11: 1, 1: 1}


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
    first = last - torch.tensor(lengths)[episode] + 1
    back = replay.precede(torch.arange(total), torch.full((total,), steps), steps)
    assert torch.equal(back, torch.maximum(torch.arange(total) - steps, first))


def test_too_small_a_ring_is_refused() -> None:
    with pytest.raises(UserError, match="expected at least 6 for runs of steps in 3 worlds"):
        LinkedReplay(5, 1, 1, num_envs=3)
