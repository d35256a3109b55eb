"""Flow matching and Euler's method against loops, and what a flow can do that a Gaussian cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from balrl.flows import FlowPolicy, VelocityField, euler, flow_matching_loss
from balrl.optim import adam, descend
from balrl.random_stream import RandomStream
from tests.agents import reference


def test_flow_matching_loss() -> None:
    field, stream = VelocityField(3, 2, (5, 4)).double(), RandomStream(3)
    conditions = torch.randn(6, 3, dtype=torch.float64)
    actions = torch.rand(6, 2, dtype=torch.float64) * 2 - 1
    noise = stream.normal(6, 2, dtype=torch.float64).numpy()
    times = stream.uniform(6, dtype=torch.float64).numpy()
    stream.reseed(3)
    found = flow_matching_loss(field, conditions, actions, stream)
    for i in range(6):
        point = (1 - times[i]) * noise[i] + times[i] * actions[i].numpy()
        velocity = reference.velocity(field, conditions[i].numpy(), point, times[i])
        expected = ((velocity - (actions[i].numpy() - noise[i])) ** 2).mean()
        assert found[i].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7])
def test_euler_takes_its_steps(steps: int) -> None:
    field = VelocityField(3, 2, (5, 4)).double()
    conditions, noise = torch.randn(4, 3, dtype=torch.float64), 0.3 * torch.randn(4, 2, dtype=torch.float64)
    calls: list[float] = []
    field.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[2][0].item()))
    found = euler(field, conditions, noise, steps)
    assert calls == [i / steps for i in range(steps)]
    for row in range(4):
        x = noise[row].numpy()
        for i in range(steps):
            x = x + reference.velocity(field, conditions[row].numpy(), x, i / steps) / steps
        np.testing.assert_allclose(found[row].detach().numpy(), np.clip(x, -1, 1), rtol=1e-12)


class Straight(nn.Module):
    """The exact field of noise carried to one action: a straight line each."""

    def forward(self, conditions: Tensor, points: Tensor, times: Tensor) -> Tensor:
        return (conditions - points) / (1 - times).unsqueeze(-1)


def test_euler_is_exact_on_straight_lines_and_clipped() -> None:
    goal = torch.tensor([[0.3, -0.7], [2.0, 0.0]])
    found = euler(Straight(), goal, torch.randn(2, 2), 10)  # type: ignore[arg-type]
    torch.testing.assert_close(found, goal.clamp(-1, 1), rtol=0, atol=1e-5)


def moons(rows: int) -> Tensor:
    """Return actions on two half circles that hook into each other, within [-1, 1]."""
    angles = torch.pi * torch.rand(rows)
    upper = torch.stack([angles.cos(), angles.sin()], -1)
    lower = torch.stack([1 - angles.cos(), 0.5 - angles.sin()], -1)
    chosen = torch.where(torch.rand(rows, 1) < 0.5, upper, lower)
    return (chosen - torch.tensor([0.5, 0.25])) / 1.6


def test_a_flow_fits_two_moons_and_a_gaussian_does_not() -> None:
    """Mean distance of samples from the nearest of 4,000 actions; a Gaussian's samples lie between the moons."""
    torch.manual_seed(0)
    stream, data, nothing = RandomStream(0), moons(4_000), torch.zeros(256, 1)
    field = VelocityField(1, 2, (64, 64, 64))
    optimizer = adam(field.parameters(), 2e-3)
    for _ in range(2_000):
        descend(optimizer, flow_matching_loss(field, nothing, data[torch.randint(4_000, (256,))], stream).mean())
    with torch.no_grad():
        of_flow = euler(field, nothing, torch.randn(256, 2), 10)
    of_gaussian = data.mean(0) + data.std(0) * torch.randn(256, 2)  # the most likely one
    near, far = (torch.cdist(samples, data).amin(-1).mean().item() for samples in (of_flow, of_gaussian))
    assert near < 0.7 * far
    assert torch.cdist(data, of_flow).amin(-1).mean() < 0.05  # both moons, all of them


def test_a_flow_policy_samples_what_its_field_carries_noise_to() -> None:
    policy = FlowPolicy(3, 2, (8,), 4).double()
    conditions = torch.randn(5, 3, dtype=torch.float64)
    stream, same = RandomStream(3), RandomStream(3)
    sampled, density = policy.sample(conditions, stream)
    assert density is None
    noise = same.normal(5, 2, dtype=torch.float64)
    assert torch.equal(sampled, euler(policy.field, conditions, noise, 4))
    many, _ = policy.sample(conditions, stream, 7)
    noise = same.normal(7, 5, 2, dtype=torch.float64)
    for drawn, z in zip(many, noise, strict=True):
        torch.testing.assert_close(drawn, euler(policy.field, conditions, z, 4))
    assert torch.equal(policy.mode(conditions), euler(policy.field, conditions, torch.zeros_like(noise[0]), 4))


def test_what_was_not_played_counts_nothing() -> None:
    field = VelocityField(3, 4, (8,)).double()
    conditions, actions = torch.randn(2, 3, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64)
    played = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    masked = flow_matching_loss(field, conditions, actions, RandomStream(1), played)
    whole = flow_matching_loss(field, conditions, actions, RandomStream(1))
    assert torch.equal(masked[0], whole[0])
    assert masked[1] < whole[1]
