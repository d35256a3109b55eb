from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, strategies as st

from balrl.random_stream import RandomStream, random_words

MASK = 2**64 - 1


def mixed(z: int) -> int:
    """SplitMix64's output function, as its authors print it."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def words(key: int, start: int, count: int) -> list[int]:
    return [mixed((key + (start + i + 1) * 0x9E3779B97F4A7C15) & MASK) for i in range(count)]


def test_the_published_sequence() -> None:
    """The first words of SplitMix64 with state 1234567, as other implementations print them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert words(1234567, 0, 4) == published
    drawn = random_words(torch.tensor(1234567), torch.tensor(0), 4)
    assert [x & MASK for x in drawn.tolist()] == published


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**40), st.integers(1, 9))
def test_words_are_exact_whatever_overflows(key: int, position: int, count: int) -> None:
    drawn = random_words(torch.tensor(key), torch.tensor(position), count)
    assert [x & MASK for x in drawn.tolist()] == words(key & MASK, position, count)


def test_numbers_follow_from_words() -> None:
    stream = RandomStream(5)
    found = words(int(stream.key) & MASK, 0, 4)
    assert copy.deepcopy(stream).uniform(4).tolist() == [(x >> 40) / 2**24 for x in found]
    assert copy.deepcopy(stream).uniform(4, dtype=torch.float64).tolist() == [(x >> 16) / 2**48 for x in found]
    assert copy.deepcopy(stream).integers(1000, 4).tolist() == [(x >> 32) * 1000 >> 32 for x in found]
    assert copy.deepcopy(stream).integers(torch.tensor(7), 2, 2).flatten().tolist() == [
        (x >> 32) * 7 >> 32 for x in found
    ]
    u, v = torch.tensor([(x >> 16) / 2**48 for x in found], dtype=torch.float64).split(2)
    expected = (-2 * torch.log(1 - u)).sqrt() * torch.cos(2 * torch.pi * v)
    torch.testing.assert_close(stream.normal(2, dtype=torch.float64), expected, rtol=1e-12, atol=1e-14)
    assert int(stream.position) == 4


def test_distributions() -> None:
    stream = RandomStream(0)
    uniform, normal = stream.uniform(200_000), stream.normal(200_000)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.003)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.001)
    assert 0 <= uniform.min() < uniform.max() < 1
    moments = [(normal**k).mean().item() for k in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    assert torch.corrcoef(torch.stack([normal[1:], normal[:-1]]))[0, 1].abs() < 0.01
    counts = torch.bincount(stream.integers(10, 200_000), minlength=10)
    assert (counts - 20_000).abs().max() < 600


def test_a_subset_has_no_repeats_and_every_order() -> None:
    stream = RandomStream(0)
    drawn = [tuple(stream.subset(2, 4).tolist()) for _ in range(600)]
    assert all(len(set(pair)) == 2 for pair in drawn)
    counts = [drawn.count(pair) for pair in set(drawn)]
    assert len(counts) == 12
    assert min(counts) > 25


def test_seeds_give_streams_of_their_own_and_state_is_everything() -> None:
    one, other = RandomStream(0), RandomStream(1)
    a, b = one.normal(10_000), other.normal(10_000)
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.03
    ours = set(random_words(one.key, torch.tensor(0), 10_000).tolist())
    assert not ours & set(random_words(other.key, torch.tensor(0), 10_000).tolist())  # nor is one the other, shifted
    again = RandomStream(9)
    again.load_state_dict(one.state_dict())
    assert torch.equal(again.uniform(5), one.uniform(5))
    one.reseed(1)
    other.reseed(1)
    assert torch.equal(one.uniform(5), other.uniform(5))


def test_batched_streams_are_the_single_ones() -> None:
    streams = [RandomStream(seed) for seed in (3, 4, 5)]
    keys = torch.stack([s.key for s in streams])
    together = torch.func.vmap(lambda key, position: random_words(key, position, 6))(keys, torch.tensor([0, 2, 9]))
    for row, stream, start in zip(together, streams, (0, 2, 9), strict=True):
        stream.position.fill_(start)
        assert torch.equal(row, stream._bits((6,)))
