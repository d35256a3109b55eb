"""A gated recurrent unit over sequences, as one operation that compilers need not look into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, library, nn

from balrl.networks import Linear


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al., arXiv 1406.1078), with torch's gates and biases.

    ``r, z = σ(x W_rz + b_rz + h U_rz + c_rz)``, ``n = tanh(x W_n + b_n + r (h U_n + c_n))``,
    ``h ← (1 − z) n + z h``; h is 0 before the first step. First weights are orthogonal, first biases 0.

    Args:
        input_dim: width of x.
        width: of h.
    """

    def __init__(self, input_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.input, self.recurrent = Linear(input_dim, 3 * width, gain=1.0), Linear(width, 3 * width, gain=1.0)

    def forward(self, x: Tensor, cut: int = 0) -> Tensor:
        """Return h ``[B, L, width]`` after each step of x ``[B, L, input_dim]``.

        Args:
            cut: so many first steps whose h later ones take as given: no gradient passes from these to those.
        """
        count, length, _ = x.shape
        projected = self.input(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (length, count))
        h, parts = x.new_zeros(count, self.width), []
        for part in (projected[:cut], projected[cut:]) if 0 < cut < length else (projected,):
            parts.append(self._advance(part, h))
            h = parts[-1][-1].detach()
        return torch.cat(parts).transpose(0, 1)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h ``[B, width]`` after one step of x ``[B, input_dim]``."""
        return self._advance(self.input(x).unsqueeze(0), h).squeeze(0)

    def _advance(self, projected: Tensor, h: Tensor) -> Tensor:
        """Return h ``[L, B, width]`` for ``x W + b`` ``[L, B, 3 width]``, from h ``[B, width]``."""
        found: Tensor = gru(projected, h, self.recurrent.weight, self.recurrent.bias)[0]
        return found


@library.custom_op("balrl::gru", mutates_args=())
def gru(inputs: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return h ``[*, L, B, H]`` after each step, and what its gradient needs: r and z, n, and ``h U_n + c_n``.

    One operation forward and one backward, whose loops over steps no compiler unrolls.

    Args:
        inputs: ``x W + b`` of every step ``[*, L, B, 3 H]``; ``[*]`` is empty, or the members of a population.
        start: h before the first ``[*, B, H]``.
        weight, bias: U ``[*, H, 3 H]`` and c ``[*, 3 H]``.
    """
    width, h = start.shape[-1], start
    hidden, gates, news, inners = [], [], [], []
    for x in inputs.unbind(-3):
        recurrent = _affine(h, weight, bias)
        both = torch.sigmoid(x[..., : 2 * width] + recurrent[..., : 2 * width])
        inner = recurrent[..., 2 * width :]
        new = torch.tanh(torch.addcmul(x[..., 2 * width :], both[..., :width], inner))
        h = torch.lerp(new, h, both[..., width:])
        hidden.append(h)
        gates.append(both)
        news.append(new)
        inners.append(inner)
    return torch.stack(hidden, -3), torch.stack(gates, -3), torch.stack(news, -3), torch.stack(inners, -3)


@library.custom_op("balrl::gru_gradient", mutates_args=())
def gru_gradient(
    gradient: Tensor, start: Tensor, weight: Tensor, hidden: Tensor, gates: Tensor, news: Tensor, inners: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a loss's gradient by `gru`'s arguments, of its gradient by h ``[*, L, B, H]`` and what `gru` returned."""
    width = start.shape[-1]
    reset, update = gates[..., :width], gates[..., width:]
    before = torch.cat([start.unsqueeze(-3), hidden[..., :-1, :, :]], -3)
    by_update = (before - news) * update * (1 - update)  # what does not depend on later steps, at once
    by_new = (1 - update) * (1 - news * news)
    by_reset = inners * reset * (1 - reset)
    transposed, later = weight.transpose(-2, -1), torch.zeros_like(start)
    of_inputs, of_recurrents = [], []
    each = (x.unbind(-3) for x in (gradient, reset, update, by_update, by_new, by_reset))
    for g, r, z, of_z, of_n, of_r in reversed(list(zip(*each, strict=True))):
        now = g + later
        new = now * of_n
        both = torch.cat([new * of_r, now * of_z], -1)
        of_inputs.append(torch.cat([both, new], -1))
        of_recurrents.append(torch.cat([both, new * r], -1))
        later = torch.addcmul(torch.matmul(of_recurrents[-1], transposed), now, z)
    flat = torch.stack(of_recurrents[::-1], -3).flatten(-3, -2)
    return (
        torch.stack(of_inputs[::-1], -3),
        later,
        torch.matmul(before.flatten(-3, -2).transpose(-2, -1), flat),
        flat.sum(-2),
    )


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == 2:
        return torch.addmm(bias, h, weight)
    return torch.matmul(h, weight) + bias.unsqueeze(-2)


@gru.register_fake
def _(inputs: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape, width = inputs.shape[:-1], start.shape[-1]
    one = (*shape, width)
    return inputs.new_empty(one), inputs.new_empty(*shape, 2 * width), inputs.new_empty(one), inputs.new_empty(one)


@gru_gradient.register_fake
def _(
    gradient: Tensor, start: Tensor, weight: Tensor, hidden: Tensor, gates: Tensor, news: Tensor, inners: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    by_inputs = gradient.new_empty(*gradient.shape[:-1], weight.shape[-1])
    return (
        by_inputs,
        start.new_empty(start.shape),
        weight.new_empty(weight.shape),
        weight.new_empty(*weight.shape[:-2], weight.shape[-1]),
    )


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    _, start, weight, _ = inputs
    ctx.save_for_backward(start, weight, *output)


def _gradient(ctx: Any, gradient: Tensor, *_: Tensor) -> Any:
    return gru_gradient(gradient.contiguous(), *ctx.saved_tensors)


gru.register_autograd(_gradient, setup_context=_keep)


def _batched(info: Any, in_dims: Sequence[int | None], *given: Tensor) -> tuple[Any, Any]:
    """The operation for all members of a population, each argument a stack."""
    stacks = (
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(given, in_dims, strict=True)
    )
    found = (gru if len(given) == 4 else gru_gradient)(*stacks)
    return found, (0,) * len(found)


gru.register_vmap(_batched)
gru_gradient.register_vmap(_batched)
