"""Random numbers as a pure function of a seed and a position, so that every way of running an update draws the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, library, nn

GAMMA = 0x9E3779B97F4A7C15
"""2⁶⁴ over the golden ratio: how far one position is from the next."""
MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class RandomStream(nn.Module):
    """SplitMix64 (Steele, Lea and Flood, 2014) as a counter: number ``i`` is ``mix(key + (i + 1) · γ)``, modulo 2⁶⁴.

    One seed gives one sequence of words, and with it of integers and uniform numbers, on a CPU and on a GPU, in an
    update that is run as it is written, compiled, captured as a graph, or batched with the updates of other seeds.
    Normal numbers are equal to the last digits only: each device has a logarithm and a cosine of its own. Torch's
    generators promise none of that. Key and position are buffers: a checkpoint holds the stream, and drawing never asks
    the host.

    Args:
        seed: in [0, 2⁶³).
    """

    key: Tensor
    position: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("key", torch.zeros((), dtype=torch.int64))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start the sequence of another seed."""
        self.key.fill_(_signed(_mix_on_host((seed + 1) * GAMMA)))
        self.position.zero_()

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return numbers in [0, 1): multiples of 2⁻²⁴, or of 2⁻⁴⁸ in double precision."""
        return _to_unit(self._bits(shape), dtype)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return standard normal numbers: ``√(−2 ln(1 − u)) · cos(2π v)`` (Box and Muller, 1958), u and v uniform."""
        u, v = _to_unit(self._bits((2, *shape)), dtype).unbind(0)
        return (-2 * torch.log1p(-u)).sqrt() * torch.cos(2 * math.pi * v)

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Return integers in [0, high), `high` up to 2³¹ and possibly a tensor ``[]``; the bias is below 2⁻³²·high."""
        return _shift(_shift(self._bits(shape), 32) * high, 32)

    def subset(self, count: int, of: int) -> Tensor:
        """Return `count` different integers in [0, of), in random order."""
        return self.uniform(of, dtype=torch.float64).argsort()[:count]

    def _bits(self, shape: Sequence[int]) -> Tensor:
        """Return the next random 64-bit words."""
        words = random_words(self.key, self.position, math.prod(shape))
        self.position.add_(math.prod(shape))
        return words.reshape(*words.shape[:-1], *shape)


@library.custom_op("balrl::random_words", mutates_args=())
def random_words(key: Tensor, position: Tensor, count: int) -> Tensor:
    """Return the `count` words after a position of each key's sequence: ``[*]`` and ``[*]`` give ``[*, count]``.

    One opaque operation: compilers merge 64-bit integer arithmetic into what follows, and the one for CPUs does not
    always get it right.
    """
    return mixed(key, position, torch.arange(1, count + 1, device=key.device))


@random_words.register_fake
def _(key: Tensor, position: Tensor, count: int) -> Tensor:
    return key.new_empty(*torch.broadcast_shapes(key.shape, position.shape), count)


@random_words.register_vmap
def _(info: Any, in_dims: Sequence[int | None], key: Tensor, position: Tensor, count: int) -> tuple[Tensor, int]:
    batched = (x if dim is None else x.movedim(dim, 0) for x, dim in zip((key, position), in_dims, strict=False))
    return random_words(*batched, count), 0


def mixed(key: Any, position: Any, steps: Any) -> Any:
    """Return the words so many steps ``1, 2, …`` after a position, in operations that a compiler can see through."""
    z = (steps + position.unsqueeze(-1)) * _signed(GAMMA) + key.unsqueeze(-1)
    for shift, factor in MIXERS:
        z = (z ^ _shift(z, shift)) * _signed(factor)
    return z ^ _shift(z, 31)


def _shift(x: Any, by: int) -> Any:
    """Shift right without the sign: torch has signed 64-bit integers only."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _to_unit(bits: Tensor, dtype: torch.dtype) -> Tensor:
    digits = 48 if dtype == torch.float64 else 24  # vectorised conversions to double are exact up to 51
    return _shift(bits, 64 - digits).to(dtype) * 2.0**-digits


def _mix_on_host(z: int) -> int:
    for shift, factor in MIXERS:
        z = (z % 2**64 ^ z % 2**64 >> shift) * factor
    return z % 2**64 ^ z % 2**64 >> 31


def _signed(x: int) -> int:
    return (x + 2**63) % 2**64 - 2**63
