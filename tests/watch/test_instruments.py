from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import BC, SAC, BCConfig, SACConfig
from balrl.watch.instruments import SwitchInstruments
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def make() -> SAC:
    return SAC(*SPACES, SACConfig(hidden=(8,), critics=3))


def test_measures_q_its_error_and_its_disagreement() -> None:
    agent, offline, online = make(), random_batch(16), random_batch(8)
    found = SwitchInstruments(offline).measure(agent, online)
    for name, b in (("offline", offline), ("online", online)):
        q = agent.critic(b.observations, b.actions).detach()
        following = agent.target_critic(b.next_observations, agent.act(b.next_observations, deterministic=True))
        target = b.rewards + 0.99 * following.min(0).values * ~b.terminated
        assert found[f"switch/{name}_q"].item() == pytest.approx(q.mean().item(), rel=1e-5)
        assert found[f"switch/{name}_q_max"].item() == pytest.approx(q.mean(0).max().item(), rel=1e-5)
        error = (target - q.mean(0)).square().mean().sqrt()
        assert found[f"switch/{name}_td"].item() == pytest.approx(error.item(), rel=1e-5)
        spread = q.numpy().std(0).mean()
        assert found[f"switch/{name}_disagreement"].item() == pytest.approx(spread, rel=1e-5)
    modes = agent.act(online.observations, deterministic=True)
    assert found["switch/saturation"].item() == pytest.approx((modes.abs() > 0.99).float().mean().item())


def test_divergence_from_the_policy_at_the_switch() -> None:
    agent, offline = make(), random_batch(16)
    instruments = SwitchInstruments(offline)
    assert "switch/kl" not in instruments.measure(agent)
    instruments.mark(agent, None)
    assert instruments.measure(agent)["switch/kl"].item() == pytest.approx(0.0, abs=1e-6)
    mean, log_std = agent.distribution(offline.observations)
    old = torch.distributions.Normal(mean, log_std.exp())
    for p in agent.policy.parameters():
        p.data += 0.1 * torch.randn_like(p)
    mean, log_std = agent.distribution(offline.observations)
    new = torch.distributions.Normal(mean, log_std.exp())
    expected = torch.distributions.kl_divergence(new, old).sum(-1).mean().item()
    assert instruments.measure(agent)["switch/kl"].item() == pytest.approx(expected, rel=1e-5)
    instruments.mark(agent, None)  # the switch is behind: nothing changes
    assert instruments.measure(agent)["switch/kl"].item() == pytest.approx(expected, rel=1e-5)


def test_the_acceleration_of_the_divergence_is_its_second_difference_and_survives_a_stop() -> None:
    agent, instruments = make(), SwitchInstruments(random_batch(16))
    instruments.mark(agent, None)
    found = []
    for _ in range(4):
        with torch.no_grad():
            agent.policy.mean.bias.add_(0.1)
        resumed = SwitchInstruments()
        resumed.load_state_dict(instruments.state_dict())
        found.append({key: float(value) for key, value in instruments.measure(agent).items()})
        assert {key: float(value) for key, value in resumed.measure(agent).items()} == found[-1]
    kls = [0.0, *(f["switch/kl"] for f in found)]
    assert "switch/kl_acceleration" not in found[0]
    for i, values in enumerate(found[1:], start=2):
        expected = kls[i] - 2 * kls[i - 1] + kls[i - 2]
        assert values["switch/kl_acceleration"] == pytest.approx(expected, abs=1e-6)


def test_draws_no_random_number_and_changes_nothing() -> None:
    agent = make()
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    instruments = SwitchInstruments(random_batch(16))
    state = torch.get_rng_state()
    instruments.mark(agent, None)
    instruments.measure(agent, random_batch_without_drawing())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in agent.state_dict().items())


def random_batch_without_drawing():  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        return random_batch(4)


def test_without_data_the_first_interaction_is_the_frozen_batch_and_state_is_everything() -> None:
    agent, first = make(), random_batch(8)
    instruments = SwitchInstruments()
    assert set(instruments.measure(agent)) == set()
    instruments.mark(agent, first)
    assert instruments.probe is first
    for p in agent.parameters():
        p.data += 0.1
    other = SwitchInstruments()
    other.load_state_dict(instruments.state_dict())
    newest = random_batch(4)
    one, two = instruments.measure(agent, newest), other.measure(agent, newest)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert other.at_switch == pytest.approx(instruments.at_switch)


def test_an_agent_without_critics_or_density_is_measured_where_it_can_be() -> None:
    agent = BC(*SPACES, BCConfig(hidden=(8,), policy="deterministic"))
    instruments = SwitchInstruments(random_batch(8))
    instruments.mark(agent, None)
    assert set(instruments.measure(agent)) == {"switch/saturation"}
