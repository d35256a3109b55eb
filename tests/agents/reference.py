"""The losses, written again without balrl's code: numpy for values, loops where loops are clearer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def value_of(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def mlp(trunk: nn.Module, x: Array, member: int | None = None) -> Array:
    """Hidden features of a network without layer norm."""
    for layer in trunk.layers:  # type: ignore[union-attr]
        weight, bias = value_of(layer.weight), value_of(layer.bias)
        if member is not None:
            weight, bias = weight[member], bias[member]
        x = np.maximum(x @ weight + bias, 0)
    return x


def flax_mlp(trunk: Any, x: Array, member: int | None = None) -> Array:
    """Hidden features with GELU, and where there is layer norm it comes after, as in flax code."""

    def own(tensor: Tensor) -> Array:
        return value_of(tensor) if member is None else value_of(tensor)[member]

    for i, layer in enumerate(trunk.layers):
        x = x @ own(layer.weight) + own(layer.bias)
        x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        if trunk.norms is not None:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * own(trunk.norms[i].weight) + own(trunk.norms[i].bias)
    return x


def flax_q_values(critic: Any, observations: Array, actions: Array) -> Array:
    """``[members, B]`` of such networks, one member after another."""
    x, weights, biases = (
        np.concatenate([observations, actions], -1),
        value_of(critic.head.weight),
        value_of(critic.head.bias),
    )
    return np.stack([flax_mlp(critic.trunk, x, i) @ weights[i] + biases[i] for i in range(len(biases))])


def velocity(field: Any, condition: Array, point: Array, time: float) -> Array:
    """Of one row."""
    features = flax_mlp(field.trunk, np.concatenate([condition, point, [time]]))
    return features @ value_of(field.velocity.weight) + value_of(field.velocity.bias)


def one_step(policy: Any, inputs: Array, latent: Array) -> Array:
    """Actions of a one-step policy, not clipped."""
    features = flax_mlp(policy.trunk, np.concatenate([inputs, latent], -1))
    return features @ value_of(policy.mean.weight) + value_of(policy.mean.bias)


def state_value(value: Any, observations: Array) -> Array:
    return mlp(value.trunk, observations) @ value_of(value.head.weight) + value_of(value.head.bias)


def q_values(critic: Any, observations: Array, actions: Array) -> Array:
    """``[members, B]``, one member after another."""
    x = np.concatenate([observations, actions], -1)
    members = value_of(critic.head.bias).shape[0]
    return np.stack(
        [
            mlp(critic.trunk, x, i) @ value_of(critic.head.weight)[i] + value_of(critic.head.bias)[i]
            for i in range(members)
        ]
    )


def gaussian_log_prob(policy: Any, inputs: Array, actions: Array) -> Array:
    features = mlp(policy.trunk, inputs)
    mean = np.tanh(features @ value_of(policy.mean.weight) + value_of(policy.mean.bias))
    log_std = np.clip(value_of(policy.log_std), *policy.log_std_range)
    result = np.zeros(len(inputs))
    for row in range(len(inputs)):
        for d in range(actions.shape[1]):
            z = (actions[row, d] - mean[row, d]) / math.exp(log_std[d])
            result[row] += -0.5 * z * z - log_std[d] - 0.5 * math.log(2 * math.pi)
    return result


def tanh_gaussian(policy: Any, inputs: Array, noise: Array) -> tuple[Array, Array]:
    """Actions ``[..., B, action_dim]`` for standard normal noise of that shape, and their log-densities."""
    features = mlp(policy.trunk, inputs)
    mean = features @ value_of(policy.mean.weight) + value_of(policy.mean.bias)
    log_std = features @ value_of(policy.log_std.weight) + value_of(policy.log_std.bias)
    log_std = np.clip(log_std, *policy.log_std_range)
    x = mean + np.exp(log_std) * noise
    log_prob = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
    log_cosh = np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)  # 1 − tanh² = cosh⁻²
    return np.tanh(x), log_prob + 2 * log_cosh.sum(-1)


def embed(beta: Array, width: int) -> Array:
    return np.array(
        [
            [(math.sin if i % 2 == 0 else math.cos)(b / 10_000 ** (2 * (i // 2) / width)) for i in range(width)]
            for b in beta
        ]
    )


def first_adam_step(parameters: list[Tensor], loss: Tensor, learning_rate: float) -> list[Tensor]:
    """Adam's first step in closed form: the bias-corrected moments are the gradient and its square."""
    gradients = torch.autograd.grad(loss, parameters)
    return [p.detach() - learning_rate * g / (g.abs() + 1e-8) for p, g in zip(parameters, gradients, strict=True)]


def gru(unit: Any, x: Array, h: Array | None = None) -> Array:
    """``[L, width]`` of one window ``[L, input_dim]``, step by step; the first from h, or from 0."""
    w, b, u, c = (value_of(p) for p in (unit.input.weight, unit.input.bias, unit.recurrent.weight, unit.recurrent.bias))
    width = u.shape[0]
    state, found = np.zeros(width) if h is None else h, []
    for row in x:
        of_x, of_h = row @ w + b, state @ u + c
        reset, update = (1 / (1 + np.exp(-(of_x + of_h)[part * width : (part + 1) * width])) for part in (0, 1))
        new = np.tanh(of_x[2 * width :] + reset * of_h[2 * width :])
        state = (1 - update) * new + update * state
        found.append(state)
    return np.stack(found)
