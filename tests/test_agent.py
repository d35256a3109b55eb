"""The contract of an agent, kept by the smallest one that there can be."""

from __future__ import annotations

from typing import Literal

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agent import Agent, Metrics
from balrl.agents import SAC, SACConfig
from balrl.batch import Batch
from balrl.checkpoint import POLICY
from balrl.config import AgentConfig
from balrl.errors import UserError
from balrl.on_policy import RolloutBuffer
from balrl.optim import adam, descend
from balrl.policies import DeterministicPolicy, GaussianPolicy
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-2.0, 4.0, (2,))


class TinyConfig(AgentConfig):
    """No settings."""

    name: Literal["tiny"] = "tiny"
    policy: Literal["deterministic"] = "deterministic"


class Tiny(Agent):
    """Regresses the data's actions."""

    config_type = TinyConfig
    carried = (POLICY,)

    def _build(self, c: TinyConfig) -> None:
        self.policy = DeterministicPolicy(self.spaces.observation_dim, self.spaces.action_dim, (4,))
        self.optimizers["policy"] = adam(self.policy.parameters(), 1e-2)

    def _update(self, batch: Batch) -> Metrics:
        loss: Tensor = (self.policy(self.normalizer(batch.observations)) - batch.actions).square().mean()
        descend(self.optimizers["policy"], loss)
        return {"policy/loss": loss.detach()}


def test_what_an_author_writes_is_enough_to_learn_and_to_act() -> None:
    agent, batch = Tiny(*SPACES), random_batch(32)
    first = agent.update(batch)["policy/loss"]
    for _ in range(100):
        last = agent.update(batch)["policy/loss"]
    assert last < 0.5 * first
    action, state = agent.predict(np.zeros(3, np.float32))
    assert state is None
    inside = agent.act(torch.zeros(1, 3))
    np.testing.assert_allclose(action, -2 + (inside[0].numpy() + 1) * 3, rtol=1e-6)


def test_what_it_does_not_declare_it_does_not_have() -> None:
    agent, batch = Tiny(*SPACES), random_batch(4)
    assert (agent.discount, agent.is_family, agent.fits_normalizer, agent.on_policy) == (1.0, False, False, False)
    assert agent.q_values(batch.observations, batch.actions) is None
    assert agent.td_target(batch) is None
    assert agent.distribution(batch.observations) is None
    assert agent.fields_in("online") == ()
    for ask in (
        lambda: agent.update_critic(batch),
        lambda: agent.rollout_buffer(1, 1),
        lambda: agent.compute_advantages(RolloutBuffer(1, 1, 3, 2, 1, 1)),
    ):
        with pytest.raises(NotImplementedError, match="Tiny"):
            ask()
    with pytest.raises(ValueError, match="one policy, not a family"):
        agent.act(batch.observations, balance=2.0)


def test_phases_are_counted_for_the_host_and_for_tensors() -> None:
    agent, batch = Tiny(*SPACES), random_batch(8)
    agent.update_utd(batch, 4)
    assert (agent.phase_updates, agent.clock.item()) == (4, 4)
    assert agent.variant == ("offline", None, 0)
    agent.set_phase("online", 7)
    assert (agent.phase_updates, agent.clock.item()) == (0, 0)
    assert agent.variant == ("online", 7, 0)
    agent.update(batch)
    assert agent.phase_updates == 1


class Noisy(Tiny):
    """The same with a policy that draws."""

    def _build(self, c: TinyConfig) -> None:
        self.policy = GaussianPolicy(self.spaces.observation_dim, self.spaces.action_dim, (4,))
        self.optimizers["policy"] = adam(self.policy.parameters(), 1e-2)


def test_acting_draws_unless_it_is_asked_not_to_and_stays_within_bounds() -> None:
    agent, observations = Noisy(*SPACES), torch.randn(400, 3)
    drawn, again = agent.act(observations), agent.explore(observations)
    assert not torch.equal(drawn, again)
    assert (drawn.min().item(), drawn.max().item()) == (-1, 1)  # a deviation of 1 leaves them often
    assert (drawn == -1).any(0).all()
    assert ((drawn > -1) & (drawn < 0)).any()
    mode = agent.act(observations, deterministic=True)
    assert torch.equal(mode, agent.policy.mode(observations))
    assert not drawn.requires_grad
    assert not mode.requires_grad
    mean, log_std = agent.distribution(observations) or (None, None)
    assert mean is not None
    assert torch.equal(mean, mode)
    assert log_std is not None
    assert log_std.shape == mode.shape


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match="no device 'cuda:99' here; found cpu"):
        Tiny(*SPACES, device="cuda:99")
    agent = Tiny(*SPACES)
    for wrong, found in (
        (np.zeros(4), r"ndarray of shape \(4,\)"),
        (np.zeros((2, 2, 3)), "ndarray"),
        ("up", "'up'"),
        (None, "None"),
    ):
        with pytest.raises(
            UserError, match=rf"the observation is {found}.*, expected shape \(3,\), or a batch of them"
        ):
            agent.predict(wrong)  # type: ignore[arg-type]
    assert agent.predict([0.0, 1.0, 2.0])[0].shape == (2,)  # type: ignore[arg-type]


def test_the_average_of_the_policy_s_weights_acts() -> None:
    """The plain mean of the newest weights until there are as many as the decay looks back on, then exponential."""
    agent = Tiny(*SPACES, TinyConfig(policy_average=0.75))
    assert agent.averaged_policy is not None
    mean = torch.zeros_like(agent.policy.mean.bias)
    for seen in range(1, 8):
        agent.update(random_batch(8))
        mean = mean + max(0.25, 1 / seen) * (agent.policy.mean.bias.detach() - mean)
        torch.testing.assert_close(agent.averaged_policy.mean.bias, mean, rtol=1e-5, atol=1e-7)
    observations = torch.randn(4, 3)
    expected = agent.averaged_policy.mode(observations)
    assert torch.equal(agent.act(observations, deterministic=True), expected)
    assert not torch.equal(agent.policy.mode(observations), expected)
    agent.start_average()
    assert torch.equal(agent.act(observations, deterministic=True), agent.policy.mode(observations))


def test_an_anchor_holds_the_policy_near_the_pre_trained_one_and_lets_go() -> None:
    agent = SAC(*SPACES, SACConfig(hidden=(8,), anchor=2.0, anchor_updates=4)).double()
    batch = random_batch(16, dtype=torch.float64)
    agent.update(batch)
    inputs, nothing = batch.observations, torch.zeros((), dtype=torch.float64)
    assert agent.anchored(nothing, lambda: inputs) is nothing  # not in pre-training
    agent.set_phase("online", 100)
    found = []
    for _ in range(6):
        agent.update(batch)
        mean, log_std = agent.policy(inputs)
        assert agent.anchor_policy is not None
        to_mean, to_log_std = agent.anchor_policy(inputs)
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(to_mean, to_log_std.exp())
        )
        left = max(0.0, 1 - (int(agent.clock) - 1) / 4)
        found.append(agent.anchored(nothing, lambda: inputs).item())
        assert found[-1] == pytest.approx(2 * left * kl.sum(-1).mean().item(), rel=1e-9)
    assert found[2] > 0
    assert found[-1] == 0


@pytest.mark.parametrize("anchor", [0.0, 1e3])
def test_a_heavy_anchor_keeps_the_policy_where_it_was(anchor: float) -> None:
    torch.manual_seed(0)
    agent = SAC(*SPACES, SACConfig(hidden=(8,), anchor=anchor, policy_learning_rate=1e-2))
    agent.set_phase("online")
    observations = torch.randn(64, 3)
    before = agent.act(observations, deterministic=True)
    for _ in range(60):
        agent.update(random_batch(64))
    moved = (agent.act(observations, deterministic=True) - before).abs().mean().item()
    assert (moved < 0.1) == (anchor > 0)
