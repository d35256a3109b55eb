"""Optimisers: their moments, their step sizes, and steps that touch only their own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor, nn

from balrl.vmap import rows, stacked, unstacked

CACHED = 2048
"""Rows whose activations stay in a CPU's cache."""


class OptimizedModule(nn.Module):
    """A module with optimisers of its own parameters, whose moments are moved and cast with them."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizers: dict[str, torch.optim.Adam] = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for optimizer in self.optimizers.values():
            for slots in optimizer.state.values():
                slots.update({key: fn(value) for key, value in slots.items()})
                slots["step"] = slots["step"].float()  # the fused kernels' type, whatever the parameters are cast to
        return self

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return every optimiser's tensors, keyed by parameter name: ``"critic.head.bias:exp_avg"``."""
        names = {id(p): name for name, p in self.named_parameters()}
        return {
            f"{names[id(parameter)]}:{key}": value
            for optimizer in self.optimizers.values()
            for parameter, slots in optimizer.state.items()
            for key, value in slots.items()
        }

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Undo `optimizer_state`; parameters that it lacks keep fresh moments."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, slot = key.rsplit(":", 1)
            slots.setdefault(name, {})[slot] = value
        names = {id(p): name for name, p in self.named_parameters()}
        for optimizer in self.optimizers.values():
            for parameter in optimizer.param_groups[0]["params"]:
                stored = slots.get(names[id(parameter)], {})
                for key, value in optimizer.state[parameter].items():
                    value.copy_(stored.get(key, torch.zeros_like(value)))


def adam(parameters: Iterable[nn.Parameter], learning_rate: float, scheduled: bool = False) -> torch.optim.Adam:
    """Return Adam (arXiv 1412.6980) in torch's fused form, its moments there from the start, so that no step differs.

    Args:
        parameters: to be learned.
        learning_rate: step size.
        scheduled: keep the step size in a tensor, ``param_groups[0]["lr"]``, that an update can change.
    """
    owned = list(parameters)
    device = owned[0].device
    rate: Any = torch.tensor(learning_rate, dtype=rate_type(device), device=device) if scheduled else learning_rate
    optimizer = torch.optim.Adam(owned, lr=rate, fused=True, capturable=device.type == "cuda")
    for parameter in owned:
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def rate_type(device: torch.device) -> torch.dtype:
    """Return the type that torch's fused kernels read a step size in."""
    return torch.float64 if device.type == "cpu" else torch.float32


def anneal(optimizer: torch.optim.Optimizer, learning_rate: float, done: Tensor, length: int | None) -> None:
    """Set a scheduled step size to ``½ (1 + cos(π t / T)) · learning_rate`` (arXiv 1608.03983), or to all of it.

    Args:
        done: t ``[]``, the steps that were taken.
        length: T; None: the step size stays.
    """
    rate = optimizer.param_groups[0]["lr"]
    if length:
        share = (done.to(rate.dtype) / length).clamp(max=1)
        rate.copy_(0.5 * (1 + torch.cos(math.pi * share)) * learning_rate)
    else:
        rate.fill_(learning_rate)


def warm_up(optimizer: torch.optim.Optimizer, learning_rate: float, taken: Tensor, length: int) -> None:
    """Set a scheduled step size to ``min(t / T, 1) · learning_rate``.

    Args:
        taken: t ``[]``, updates so far, this one included.
        length: T.
    """
    rate = optimizer.param_groups[0]["lr"]
    rate.copy_((taken.to(rate.dtype) / length).clamp(max=1) * learning_rate)


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float | None = None, weight_decay: float = 0.0
) -> None:
    """Take one step of `optimizer` on `loss`; no gradient reaches any parameter but its own.

    In a population each member's loss depends on its own row of the parameters only: their sum has every gradient.

    Args:
        max_norm: to which the gradient of all parameters of one agent together is scaled down.
        weight_decay: λ of AdamW (arXiv 1711.05101): ``θ ← (1 − rate · λ) θ`` before the step.
    """
    parameters = optimizer.param_groups[0]["params"]
    losses = stacked(loss)
    gradients = torch.autograd.grad(losses.sum(), parameters)
    if max_norm is not None:
        norms = torch.stack([g.square().reshape(*losses.shape, -1).sum(-1) for g in gradients]).sum(0).sqrt()
        limit: Any = max_norm  # in a population that varies it one for each member
        share = ((stacked(limit) if isinstance(limit, Tensor) else limit) / (norms + 1e-6)).clamp(max=1.0)
        gradients = tuple(g * rows(share, g) for g in gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if weight_decay:
        kept = 1 - optimizer.param_groups[0]["lr"] * weight_decay
        for stack in map(stacked, parameters):
            stack.detach().mul_(rows(stacked(kept), stack) if isinstance(kept, Tensor) else kept)
    optimizer.step()


def coast(optimizer: torch.optim.Optimizer) -> None:
    """Take one step of `optimizer` on gradients of zero: the momentum moves the parameters, and decays."""
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def in_blocks(loss_of: Callable[[slice], Tensor], rows: int, width: int, parameters: Sequence[Tensor]) -> Tensor:
    """Return the mean of a loss over rows, on a CPU computed and differentiated one block of rows after another.

    Value and gradient are those of ``loss_of(slice(0, rows))``, but what is made on the way exists for one block at a
    time, and can stay in a processor's cache. The result is linear in the parameters, with the gradient for its slope:
    it can be used in a larger loss, and differentiated once.

    Args:
        loss_of: the mean loss ``[]`` over some rows.
        rows: how many there are.
        width: inputs of a network that each row stands for; a block has `CACHED` of them.
        parameters: what the loss is differentiated by.
    """
    blocks = -(-width * rows // CACHED) if parameters[0].device.type == "cpu" else 1
    if blocks == 1:
        return loss_of(slice(0, rows))
    size = -(-rows // blocks)
    losses, made = [], []
    for start in range(0, rows, size):
        block = slice(start, min(start + size, rows))
        loss = loss_of(block) * ((block.stop - block.start) / rows)
        losses.append(loss.detach())
        made.append(torch.autograd.grad(stacked(loss).sum(), [stacked(p) for p in parameters]))
    gradients = [reduce(torch.add, terms) for terms in zip(*made, strict=True)]
    slope = reduce(torch.add, [(p * unstacked(g, p)).sum() for p, g in zip(parameters, gradients, strict=True)])
    return reduce(torch.add, losses) + (slope - slope.detach())
