"""What is done to all members of a population at once, below `torch.func.vmap`, where they are rows of a stack."""

from __future__ import annotations

from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor


def stacked(tensor: Tensor) -> Tensor:
    """Return the stack ``[K, …]`` of which a tensor under `vmap` shows one row; any other tensor as it is."""
    return get_unwrapped(tensor) if is_batchedtensor(tensor) else tensor


def rows(values: Tensor, like: Tensor) -> Tensor:
    """Return numbers ``[K]``, or one ``[]``, in a shape that multiplies the rows of `like` ``[K, …]``."""
    return values.to(like.dtype).reshape(values.shape + (1,) * (like.dim() - values.dim()))
