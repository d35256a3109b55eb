from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import QC, QCConfig
from balrl.errors import UserError
from tests.agents import reference
from tests.conftest import random_batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> QC:
    """A tiny agent of chunks of two in float64 whose target critics differ from what they follow."""
    agent = QC(
        OBSERVATIONS, ACTIONS, QCConfig(**{"hidden": (5, 4), "flow_steps": 3, "samples": 4, "chunk_size": 2} | config)
    ).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def carried(agent: QC, observation: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The action to which the flow carries one noise, one step of Euler's method after another."""
    for step in range(3):
        z = z + reference.velocity(agent.policy.field, observation, z, step / 3) / 3
    return np.clip(z, -1, 1)


def best(agent: QC, observation: np.ndarray, noises: np.ndarray) -> np.ndarray:
    actions = np.stack([carried(agent, observation, z) for z in noises])
    q = reference.flax_q_values(agent.critic, np.repeat(observation[None], len(noises), 0), actions).mean(0)
    return actions[q.argmax()]


def test_the_target_values_the_sample_that_the_critics_like_best() -> None:
    """The critics choose, the target critics value, and the discount is that of the steps that were played."""
    agent, b = make(), random_batch(6, dtype=torch.float64, chunk_size=2)
    agent.stream.reseed(3)
    noise = agent.stream.normal(4, 6, 4, dtype=torch.float64).numpy()
    agent.stream.reseed(3)
    following = b.next_observations.numpy()
    actions = np.stack([best(agent, following[i], noise[:, i]) for i in range(6)])
    values = reference.flax_q_values(agent.target_critic, following, actions).mean(0)
    expected = [
        b.rewards[i].item() + (0.0 if b.terminated[i] else b.discounts[i].item() * values[i])  # type: ignore[index]
        for i in range(6)
    ]
    np.testing.assert_allclose(agent.target(b).numpy(), expected, rtol=1e-10)
    assert set(b.discounts.tolist()) == {0.9, 0.9**2}  # type: ignore[union-attr]


def test_an_update_changes_flow_and_critics_at_once() -> None:
    agent, b = make(polyak=0.1), random_batch(6, dtype=torch.float64, chunk_size=2)
    old = copy.deepcopy(agent)
    for one in (agent, old):
        one.stream.reseed(5)
    agent.update(b)
    target = old.target(b)
    x0 = old.stream.normal(6, 4, dtype=torch.float64)
    t = old.stream.uniform(6, dtype=torch.float64)
    flow_loss = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        point = (1 - t[i]) * x0[i] + t[i] * b.actions[i]
        velocity = old.policy.field(b.observations[i : i + 1], point[None], t[i : i + 1])[0]
        for j in range(4):
            if b.played[i, j // 2]:  # type: ignore[index]
                flow_loss = flow_loss + (velocity[j] - (b.actions[i, j] - x0[i, j])) ** 2 / 24
    q = old.critic(b.observations, b.actions)
    critic_loss = ((target - q) ** 2).mean(-1).sum()
    for module, loss in (("policy", flow_loss), ("critic", critic_loss)):
        expected = reference.first_adam_step(list(getattr(old, module).parameters()), loss, 3e-4)
        for new, wanted in zip(getattr(agent, module).parameters(), expected, strict=True):
            torch.testing.assert_close(new.detach(), wanted, rtol=1e-8, atol=1e-10)


def test_what_it_does_in_a_state_can_be_repeated_and_otherwise_is_drawn() -> None:
    agent = make()
    observations = torch.randn(1, 3, dtype=torch.float64).expand(5, 3)
    position = agent.stream.position.clone()
    mode = agent.act(observations, deterministic=True)
    assert torch.equal(agent.stream.position, position)  # evaluations change no training
    torch.testing.assert_close(mode, mode[:1].expand_as(mode))
    assert agent.act(observations).std(0).min() > 0


def test_no_sample_is_better_than_the_one_that_acts() -> None:
    agent = make(samples=64)
    observations = torch.randn(3, 3, dtype=torch.float64)
    acted = agent.act(observations, deterministic=True)
    others = agent.policy.sample(observations, agent.stream, 20)[0]
    q = agent.critic(observations, acted).mean(0)
    of_others = torch.stack([agent.critic(observations, actions).mean(0) for actions in others])
    assert (q > of_others.mean(0)).all()


def test_it_cannot_be_frozen_without_its_critics() -> None:
    with pytest.raises(UserError, match="can neither be exported"):
        make().freeze()
