"""What is done to all members of a population at once, below `torch.func.vmap`, where they are rows of a stack."""

from __future__ import annotations

from torch import Tensor
from torch._C._functorch import _add_batch_dim, get_unwrapped, is_batchedtensor, maybe_get_level


def stacked(tensor: Tensor) -> Tensor:
    """Return the stack ``[K, …]`` of which a tensor under `vmap` shows one row; any other tensor as it is."""
    return get_unwrapped(tensor) if is_batchedtensor(tensor) else tensor


def unstacked(stack: Tensor, like: Tensor) -> Tensor:
    """Return a stack ``[K, …]`` as its row under `vmap`, where `like` is one; any other tensor as it is."""
    return _add_batch_dim(stack, 0, maybe_get_level(like)) if is_batchedtensor(like) else stack


def rows(values: Tensor, like: Tensor) -> Tensor:
    """Return numbers ``[K]``, or one ``[]``, in a shape that multiplies the rows of `like` ``[K, …]``."""
    return values.to(like.dtype).reshape(values.shape + (1,) * (like.dim() - values.dim()))
