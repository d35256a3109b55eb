from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.replay import MixedReplay, ReplayBuffer, free_memory
from tests.conftest import random_batch


def numbered(start: int, rows: int) -> Batch:
    """Rows whose every value tells their number."""
    n = torch.arange(start, start + rows, dtype=torch.float32)
    return Batch(
        n[:, None].expand(-1, 3), (n[:, None] / 1e4).expand(-1, 2), n, n[:, None].expand(-1, 3) + 0.5, n % 2 == 0
    )


def test_what_goes_in_comes_out_with_every_field() -> None:
    batch = random_batch(10)
    buffer = ReplayBuffer(16, 3, 2, fields=("mc_returns", "next_actions"))
    buffer.add(batch)
    found = buffer.gather(torch.arange(10))
    for name in buffer.fields:
        stored, given_ = getattr(found, name), getattr(batch, name)
        assert torch.equal(stored, given_)
        assert stored.dtype == given_.dtype
    assert found.log_probs is None


def test_several_rewards_and_preferences_come_out_as_they_went_in_and_can_be_relabelled() -> None:
    batch = random_batch(5, reward_dim=3)
    buffer = ReplayBuffer(4, 3, 2, fields=("preferences",), reward_dim=3)
    buffer.add(batch)
    found = buffer.transitions(torch.arange(4))  # of more rows than there is room for, the last
    for name in ("rewards", "preferences", "terminated", "next_observations"):
        assert torch.equal(getattr(found, name), getattr(batch, name)[1:]), name
    buffer.relabel(lambda o, a: torch.cat([a, o[:, :1]], -1))
    again = buffer.transitions(torch.arange(4))
    assert torch.equal(again.rewards, torch.cat([batch.actions, batch.observations[:, :1]], -1)[1:])
    assert torch.equal(again.next_observations, found.next_observations)


def test_fields_that_nobody_asked_for_are_not_kept() -> None:
    buffer = ReplayBuffer(4, 3, 2)
    buffer.add(random_batch(4))
    sample = buffer.sample(2)
    assert sample.mc_returns is None
    assert sample.next_actions is None
    assert buffer.storage.shape == (4, 3 + 2 + 1 + 3 + 1)


@given(st.integers(1, 12), st.lists(st.integers(0, 12), max_size=12))
def test_the_ring_holds_the_newest_rows(capacity: int, chunks: list[int]) -> None:
    buffer = ReplayBuffer(capacity, 3, 2)
    total = 0
    for chunk in chunks:
        chunk = min(chunk, capacity)
        buffer.add(numbered(total, chunk))
        total += chunk
    kept = buffer.gather(torch.arange(len(buffer))).rewards.tolist()
    assert sorted(kept) == list(range(max(0, total - capacity), total))


def test_sampling_is_uniform_over_what_is_there() -> None:
    buffer = ReplayBuffer(100, 3, 2)
    buffer.add(numbered(0, 10))
    counts = torch.bincount(buffer.sample(20_000).rewards.long(), minlength=100)
    assert counts[10:].sum() == 0
    assert (counts[:10] - 2_000).abs().max() < 250


def test_mixtures_hold_the_share_that_was_asked_for() -> None:
    offline, online = ReplayBuffer(10, 3, 2), ReplayBuffer(10, 3, 2)
    offline.add(numbered(0, 10))
    online.add(numbered(100, 10))
    for ratio, expected in ((0.0, 0), (0.25, 8), (0.5, 16), (1.0, 32)):
        batch = MixedReplay(offline, online, ratio).sample(32)
        assert int((batch.rewards < 100).sum()) == expected
        assert len(batch.rewards) == 32
        assert (batch.observations[:, 0] == batch.rewards).all()


def test_state_round_trip_continues_the_ring() -> None:
    buffer = ReplayBuffer(5, 3, 2)
    buffer.add(numbered(0, 4))
    buffer.add(numbered(4, 3))
    copy = ReplayBuffer(5, 3, 2)
    copy.load_state_dict({key: value.clone() for key, value in buffer.state_dict().items()})
    for b in (buffer, copy):
        b.add(numbered(7, 1))
    assert torch.equal(buffer.storage, copy.storage)
    assert (buffer.size, buffer.cursor) == (copy.size, copy.cursor)


def test_of_too_many_rows_the_last_are_kept_and_the_newest_are_known() -> None:
    buffer = ReplayBuffer(3, 3, 2)
    buffer.add(numbered(0, 2))
    buffer.add(numbered(2, 5))
    assert sorted(buffer.gather(torch.arange(3)).rewards.tolist()) == [4.0, 5.0, 6.0]
    assert buffer.newest(3).rewards.tolist() == [4.0, 5.0, 6.0]
    buffer.add(numbered(7, 1))
    assert buffer.newest(2).rewards.tolist() == [6.0, 7.0]
    with pytest.raises(ValueError, match="count is 4, expected 1 to 3"):
        buffer.newest(4)
    assert sorted(buffer.subsample(9, RandomStream(0)).rewards.tolist()) == [5.0, 6.0, 7.0]


def test_every_batch_of_several_has_its_share_of_offline_rows() -> None:
    offline, online = ReplayBuffer(50, 3, 2), ReplayBuffer(50, 3, 2)
    offline.add(numbered(0, 50))
    online.add(numbered(1000, 20))
    mixed = MixedReplay(offline, online, 0.25)
    drawn = mixed.sample(8, 3)
    for part in drawn.split(3):
        assert (part.rewards < 1000).sum() == 2
    assert mixed.is_ready(26)
    assert not mixed.is_ready(28)  # 21 online rows are asked for, 20 are there
    assert online.is_ready(20)
    assert not online.is_ready(21)
    assert online.sample(4, 3).rewards.shape == (12,)


def test_mistakes_are_named() -> None:
    buffer = ReplayBuffer(3, 3, 2, fields=("mc_returns",))
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    with pytest.raises(ValueError, match="mc_returns"):
        buffer.add(numbered(0, 1))
    with pytest.raises(ValueError, match="capacity is 0"):
        ReplayBuffer(0, 3, 2)
    with pytest.raises(ValueError, match=r"offline_ratio is 1\.5"):
        MixedReplay(buffer, buffer, 1.5)


def test_a_buffer_that_cannot_fit_says_how_much_it_needs() -> None:
    if free_memory(torch.device("cpu")) is None:
        pytest.skip("this system does not tell how much memory is free")
    with pytest.raises(UserError, match=r"needs [\d.]+ GiB on cpu.*replay\.capacity"):
        ReplayBuffer(10**13, 3, 2)


def test_relabelled_rows_have_the_new_reward_of_their_own_observation_and_action(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balrl.replay.RELABELLED", 3)
    buffer, batch = ReplayBuffer(9, 3, 2), random_batch(8)
    buffer.add(batch)
    before = buffer.gather(torch.arange(8))
    buffer.relabel(lambda observations, actions: observations[:, 0] - 2 * actions[:, 1])
    after = buffer.gather(torch.arange(8))
    assert torch.equal(after.rewards, batch.observations[:, 0] - 2 * batch.actions[:, 1])
    for name in ("observations", "actions", "next_observations", "terminated"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    with_returns = ReplayBuffer(4, 3, 2, fields=("mc_returns",))
    with pytest.raises(ValueError, match="cannot be relabelled"):
        with_returns.relabel(lambda observations, actions: observations[:, 0])


@pytest.mark.parametrize("rows", [4, 5])
def test_a_ring_that_is_filled_to_the_brim_begins_anew(rows: int) -> None:
    buffer = ReplayBuffer(5, 3, 2)
    buffer.add(numbered(0, rows))
    assert (len(buffer), buffer.cursor) == (rows, rows % 5)
    buffer.add(numbered(100, 2))
    kept = sorted(buffer.gather(torch.arange(5)).rewards.tolist())
    assert kept == ([1, 2, 3, 100, 101] if rows == 4 else [2, 3, 4, 100, 101])
    buffer.clear()
    assert (len(buffer), buffer.cursor) == (0, 0)
    buffer.add(numbered(7, 1))
    assert buffer.newest(1).rewards.tolist() == [7]
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"count is {count}, expected 1 to 1"):
            buffer.newest(count)


@pytest.mark.parametrize(("ratio", "offline"), [(0.0, 0), (0.1, 1), (0.5, 5), (1.0, 10)])
def test_a_mixture_s_offline_rows_stand_first(ratio: float, offline: int) -> None:
    one, other = ReplayBuffer(20, 3, 2), ReplayBuffer(20, 3, 2)
    one.add(numbered(0, 20))
    other.add(numbered(1000, 20))
    rewards = MixedReplay(one, other, ratio).sample(10, 1, RandomStream(0)).rewards
    assert (rewards[:offline] < 1000).all()
    assert (rewards[offline:] >= 1000).all()
    assert len(rewards) == 10
