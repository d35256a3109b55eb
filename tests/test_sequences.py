"""Windows of consecutive steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.random_stream import RandomStream
from balrl.sequences import SequenceReplay
from tests.conftest import random_batch


def test_windows_by_hand() -> None:
    """Two episodes of three and two steps: a window repeats its last step where its episode has ended."""
    n = torch.arange(5.0)
    replay = SequenceReplay(5, 1, 1, length=3)
    ended = torch.tensor([False, False, True, False, False])
    replay.add(Batch(n[:, None], n[:, None], 10 * n, n[:, None] + 1, ended), torch.tensor([0, 0, 1, 0, 1]).bool())
    found = replay.gather(torch.tensor([0, 1, 3]))
    assert found.rewards.tolist() == [[0, 10, 20], [10, 20, 20], [30, 40, 40]]
    assert found.played is not None
    assert found.played.tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert found.terminated.tolist() == [[False, False, True], [False, True, True], [False, False, False]]
    assert found.observations.shape == (3, 3, 1)


def learned(episode: int, length: int, burn_in: int, begin_before: bool = True) -> tuple[Tensor, Tensor]:
    """Return how many steps windows learn from ``[B]``, and how often each step of episodes is learned from."""
    rows = 20 * episode
    steps = torch.arange(rows) % episode
    placed = burn_in if begin_before else None
    replay = SequenceReplay(rows, 1, 1, fields=("timesteps",), length=length, burn_in=placed)
    n = steps.float()
    replay.add(Batch(n[:, None], n[:, None], n, n[:, None], steps < 0, timesteps=n), steps == episode - 1)
    found = replay.sample(20_000, 1, RandomStream(0))
    assert found.timesteps is not None
    assert found.played is not None
    is_learned = found.played * ((torch.arange(length) >= burn_in) | (found.timesteps[:, :1] == 0))
    return is_learned.sum(1), torch.zeros(episode).index_add_(0, found.timesteps.long().flatten(), is_learned.flatten())


@pytest.mark.parametrize("episode", [3, 8, 20, 100])
def test_every_step_of_long_and_short_episodes_is_learned_from_nearly_as_often(episode: int) -> None:
    """Short ones are windows as a whole; of long ones the first K steps are not left out because they warm up."""
    whole, count = learned(episode, length=16, burn_in=4)
    share = count / count.mean()
    assert share.min() > 0.4
    assert share.max() < 2.1
    assert (whole.min() == whole.max() == episode) if episode <= 5 else whole.min() >= 1


@pytest.mark.parametrize(
    ("episode", "begin_before", "steps", "first"),
    [(20, False, 1.3, 0.65), (20, True, 19.9, 0.85), (100, False, 29, 0.005), (100, True, 50.7, 0.136)],
)
def test_what_beginning_before_the_drawn_step_is_worth(
    episode: int, begin_before: bool, steps: float, first: float
) -> None:
    """Windows of 64 steps with 16 of burn-in: learned steps in each, and the first 17 steps' share of them."""
    whole, count = learned(episode, 64, 16, begin_before)
    assert float(whole.mean()) == pytest.approx(steps, rel=0.05)
    assert float(count[:17].sum() / count.sum()) == pytest.approx(first, abs=0.02 if first > 0.1 else 0.002)


def test_every_field_comes_in_windows() -> None:
    fields = ("returns_to_go", "timesteps", "preferences")
    replay = SequenceReplay(12, 3, 2, fields=fields, length=4, reward_dim=2)
    batch = random_batch(12, reward_dim=2)
    batch = batch._replace(returns_to_go=batch.rewards, timesteps=torch.arange(12.0))
    replay.add(batch, torch.arange(12) % 6 == 5)
    found = replay.sample(5, 1, RandomStream(0))
    assert found.rewards.shape == found.preferences.shape == (5, 4, 2)
    assert torch.equal(found.rewards, found.returns_to_go)
    assert found.next_observations.shape == (5, 4, 3)
    steps = found.timesteps
    assert ((steps[:, 1:] - steps[:, :-1] == 1) | (found.played[:, 1:] == 0)).all()
