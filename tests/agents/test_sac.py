from __future__ import annotations

import copy
import math
from typing import Literal

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.agents import SAC, FixedBalance, SACConfig, StateAdaptiveBalance
from tests.agents import reference
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


def make(**config: object) -> SAC:
    agent = SAC(*SPACES, SACConfig(hidden=(5, 4), initial_temperature=0.3, **config)).double()
    agent.log_temperature.data.fill_(math.log(0.3))
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def sampled(agent: SAC, observations: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the action that the agent will draw under this seed, and its log-probability, by hand."""
    agent.stream.reseed(seed)
    noise = agent.stream.normal(len(observations), 2, dtype=torch.float64).numpy()
    return reference.tanh_gaussian(agent.policy, observations.numpy(), noise)


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_critic_loss(backup_entropy: bool) -> None:
    agent, b = make(critics=3, backup_entropy=backup_entropy), random_batch(6, dtype=torch.float64)
    actions, log_prob = sampled(agent, b.next_observations, seed=4)
    next_q = reference.q_values(agent.target_critic, b.next_observations.numpy(), actions).min(0)
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for i in range(6):
        soft = next_q[i] - (0.3 * log_prob[i] if backup_entropy else 0.0)
        target = b.rewards[i].item() + (0.0 if b.terminated[i] else 0.99 * soft)
        expected += sum((target - q[member, i]) ** 2 for member in range(3)) / 6
    agent.stream.reseed(4)
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("phase", ["offline", "online"])
def test_fine_tuning_perturbs_the_target_s_actions_by_clipped_noise(phase: Literal["offline", "online"]) -> None:
    agent, b = make(target_noise=0.5, target_noise_clip=0.2), random_batch(6, dtype=torch.float64)
    agent.set_phase(phase)
    actions, log_prob = sampled(agent, b.next_observations, seed=4)
    if phase == "online":
        noise = 0.5 * agent.stream.normal(6, 2, dtype=torch.float64).numpy()
        assert (np.abs(noise) > 0.2).any()
        actions = np.clip(actions + np.clip(noise, -0.2, 0.2), -1, 1)
    next_q = reference.q_values(agent.target_critic, b.next_observations.numpy(), actions).min(0)
    agent.stream.reseed(4)
    found = agent.next_value(agent._normalized(b), None)
    np.testing.assert_allclose(found.numpy(), next_q - 0.3 * log_prob, rtol=1e-9)


def test_redq_s_target_is_the_minimum_over_a_random_subset() -> None:
    agent, b = make(critics=5, target_subset=2, backup_entropy=False), random_batch(6, dtype=torch.float64)
    agent.stream.reseed(4)
    subset = agent.stream.subset(2, 5).numpy()
    noise = agent.stream.normal(6, 2, dtype=torch.float64).numpy()
    actions, _ = reference.tanh_gaussian(agent.policy, b.next_observations.numpy(), noise)
    next_q = reference.q_values(agent.target_critic, b.next_observations.numpy(), actions)[subset].min(0)
    target = b.rewards.numpy() + 0.99 * np.where(b.terminated.numpy(), 0, next_q)
    q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    agent.stream.reseed(4)
    assert agent.critic_loss(b)[0].item() == pytest.approx(((target - q) ** 2).mean(1).sum(), rel=1e-9)


def test_a_subset_is_drawn_anew_without_replacement_unless_asked() -> None:
    agent = make(critics=4, target_subset=2)
    drawn = [tuple(agent._random_members(2).tolist()) for _ in range(200)]
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert len(set(drawn)) == 12
    agent = make(critics=4, target_subset=2, subset_replacement=True)
    assert any(len(set(agent._random_members(2).tolist())) == 1 for _ in range(200))
    assert make(critics=4)._random_members(None) is None
    with pytest.raises(ValueError, match="target_subset 5 is more than the 4 critics"):
        SACConfig(critics=4, target_subset=5)


def test_the_policy_can_follow_the_mean_of_the_members() -> None:
    agent, b = make(critics=3, policy_q="mean"), random_batch(6, dtype=torch.float64)
    actions, log_prob = sampled(agent, b.observations, seed=4)
    q = reference.q_values(agent.critic, b.observations.numpy(), actions).mean(0)
    agent.stream.reseed(4)
    loss, _ = agent.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    assert loss.item() == pytest.approx(np.mean(0.3 * log_prob - q), rel=1e-9)


@pytest.mark.parametrize("policy_batch", ["all", "last"])
def test_utd_takes_critic_steps_on_parts_and_one_policy_step(policy_batch: str) -> None:
    agent = make(critics=3, target_subset=2, policy_batch=policy_batch)
    by_hand, b = copy.deepcopy(agent), random_batch(12, dtype=torch.float64)
    agent.update_utd(b, 3)
    by_hand._count(3)
    for start in (0, 4, 8):
        by_hand.update_critic(b.rows(torch.arange(start, start + 4)))
    by_hand.update_policy(b if policy_batch == "all" else b.rows(torch.arange(8, 12)))
    for (name, x), y in zip(agent.state_dict().items(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    assert (agent.phase_updates, int(agent.clock)) == (1, 3)  # schedules over a phase count critic steps


def test_a_policy_that_is_not_squashed_is_clipped_and_keeps_its_density() -> None:
    agent, b = make(policy="gaussian", log_std_range=(-5.0, 2.0)), random_batch(6, dtype=torch.float64)
    agent.policy.log_std.data.fill_(1.0)
    agent.stream.reseed(4)
    mean, log_std = agent.policy(b.observations)
    raw = (mean + log_std.exp() * agent.stream.normal(6, 2, dtype=torch.float64)).detach()
    assert (raw.abs() > 1).any()
    q = reference.q_values(agent.critic, b.observations.numpy(), raw.clamp(-1, 1).numpy()).min(0)
    log_prob = reference.gaussian_log_prob(agent.policy, b.observations.numpy(), raw.numpy())
    agent.stream.reseed(4)
    loss, returned = agent.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    assert loss.item() == pytest.approx(np.mean(0.3 * log_prob - q), rel=1e-9)
    np.testing.assert_allclose(returned.numpy(), log_prob, rtol=1e-9)


def test_policy_loss_weighs_q_with_the_balance() -> None:
    agent, b = make(), random_batch(6, dtype=torch.float64)
    balance = np.linspace(0.5, 1.5, 6)
    actions, log_prob = sampled(agent, b.observations, seed=4)
    q = reference.q_values(agent.critic, b.observations.numpy(), actions).min(0)
    expected = np.mean(0.3 * log_prob - balance * q)
    agent.stream.reseed(4)
    loss, returned = agent.policy_loss(b.observations, torch.from_numpy(balance))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(returned.numpy(), log_prob, rtol=1e-9)


def test_temperature_loss() -> None:
    agent = make(target_entropy=-1.7)
    log_prob = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    expected = -math.log(0.3) * (sum([0.5, -2.0, 1.0]) / 3 - 1.7)
    assert agent.temperature_loss(log_prob).item() == pytest.approx(expected, rel=1e-6)
    assert make().target_entropy == -2.0
    assert make(target_entropy_per_dimension=-0.5).target_entropy == -1.0


def test_one_update_moves_the_critics_before_the_policy_and_the_targets_last() -> None:
    agent, b = make(polyak=0.1), random_batch(6, dtype=torch.float64)
    old = copy.deepcopy(agent)
    agent.update(b)
    critic_loss, _ = old.critic_loss(b)
    expected = reference.first_adam_step(list(old.critic.parameters()), critic_loss, 3e-4)
    for new, wanted in zip(agent.critic.parameters(), expected, strict=True):
        torch.testing.assert_close(new, wanted, rtol=1e-9, atol=1e-12)
    old.critic.load_state_dict(agent.critic.state_dict())
    policy_loss, log_prob = old.policy_loss(b.observations, torch.ones(6, dtype=torch.float64))
    expected = reference.first_adam_step(list(old.policy.parameters()), policy_loss, 3e-4)
    for new, wanted in zip(agent.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(new, wanted, rtol=1e-9, atol=1e-12)
    [temperature] = reference.first_adam_step([old.log_temperature], old.temperature_loss(log_prob), 3e-4)
    torch.testing.assert_close(agent.log_temperature, temperature, check_dtype=False)
    for new, before, source in zip(
        agent.target_critic.parameters(), old.target_critic.parameters(), agent.critic.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * before + 0.1 * source, rtol=1e-9, atol=1e-12)


def test_each_state_of_the_critic_loss_gets_its_own_balance() -> None:
    agent = make(balance=StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False))
    agent.set_phase("online")
    seen: list[Tensor] = []
    original = agent.balance.sample
    agent.balance.sample = lambda o, online, s: seen.append(o) or original(o, online, s)  # type: ignore[method-assign]
    b = random_batch(6, dtype=torch.float64)
    agent.update(b)
    assert torch.equal(seen[0], b.next_observations)
    assert torch.equal(seen[1], b.observations)


def test_learns_a_bandit() -> None:
    """One step, reward −(a − 0.5)²: the mode must find 0.5."""
    config = SACConfig(
        hidden=(32,),
        policy_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        temperature_learning_rate=1e-6,
        initial_temperature=0.01,
        balance=FixedBalance(1.0),
    )
    agent = SAC(*SPACES, config)
    for _ in range(1500):
        b = random_batch(128)
        b = b._replace(rewards=-(b.actions - 0.5).square().sum(-1), terminated=torch.ones(128, dtype=torch.bool))
        agent.update(b)
    action = agent.act(torch.randn(50, 3), deterministic=True).mean(0)
    torch.testing.assert_close(action, torch.tensor([0.5, 0.5]), rtol=0, atol=0.15)


def test_coasting_moves_the_idle_by_their_momentum_alone() -> None:
    """Policy and temperature: steps on zero gradients while the critics learn; the critics: one with the policy's."""
    utd, batch = 3, random_batch(12, dtype=torch.float64)
    plain, coasting = make(policy_batch="last"), make(policy_batch="last", coasting=True)
    coasting.load_state_dict(plain.state_dict())
    before = {name: p.detach().numpy().copy() for name, p in plain.named_parameters()}
    for agent in (plain, coasting):
        agent.stream.reseed(3)
        agent.update_utd(batch, utd)
    rates = {"policy": 3e-4, "temperature": 3e-4}
    for group, rate in rates.items():
        for p, q in zip(*(a.optimizers[group].param_groups[0]["params"] for a in (plain, coasting)), strict=True):
            name = next(name for name, other in plain.named_parameters() if other is p)
            gradient = plain.optimizers[group].state[p]["exp_avg"].numpy() / 0.1  # of its one step
            t = utd + 1  # the idle steps count, and moved nothing yet
            mean, square = 0.1 * gradient / (1 - 0.9**t), 0.001 * gradient**2 / (1 - 0.999**t)
            expected = before[name] - rate * mean / (np.sqrt(square) + 1e-8)
            np.testing.assert_allclose(q.detach().numpy(), expected, rtol=1e-12, err_msg=name)
            assert coasting.optimizers[group].state[q]["step"].item() == t
    for p, q in zip(plain.critic.parameters(), coasting.critic.parameters(), strict=True):
        slots, t = plain.optimizers["critic"].state[p], utd + 1
        mean = 0.9 * slots["exp_avg"].numpy() / (1 - 0.9**t)
        square = 0.999 * slots["exp_avg_sq"].numpy() / (1 - 0.999**t)
        expected = p.detach().numpy() - 3e-4 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(q.detach().numpy(), expected, rtol=1e-12)
    for p, q in zip(plain.target_critic.parameters(), coasting.target_critic.parameters(), strict=True):
        assert torch.equal(p, q)


def test_nobody_is_idle_at_one_update_per_step() -> None:
    batch = random_batch(6, dtype=torch.float64)
    plain, coasting = make(), make(coasting=True)
    coasting.load_state_dict(plain.state_dict())
    for agent in (plain, coasting):
        agent.update_utd(batch, 1)
        agent.update(batch)
    for p, q in zip(plain.parameters(), coasting.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("policy", ["tanh-gaussian", "gaussian"])
def test_the_last_hidden_layers_begin_as_small_as_asked_for(policy: str) -> None:
    """Orthogonal times that gain, member by member; all other layers, heads included, as ever."""
    torch.manual_seed(0)
    agent = SAC(*SPACES, SACConfig(hidden=(5, 4), critics=3, policy=policy, last_hidden_gain=0.01))
    torch.manual_seed(0)
    usual = SAC(*SPACES, SACConfig(hidden=(5, 4), critics=3, policy=policy))
    for trunk, other in ((agent.policy.trunk, usual.policy.trunk), (agent.critic.trunk, usual.critic.trunk)):
        last = trunk.layers[-1].weight.detach()
        square = last.mT @ last
        torch.testing.assert_close(square, 1e-4 * torch.eye(4).expand_as(square), rtol=1e-5, atol=1e-10)
        assert torch.equal(trunk.layers[0].weight, other.layers[0].weight)
    assert torch.equal(agent.critic.head.weight, usual.critic.head.weight)
    for p, q in zip(agent.critic.parameters(), agent.target_critic.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_balance_model_moves_when_it_is_its_turn() -> None:
    family = StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False, every=3)
    agent, batch, moved = make(balance=family), random_batch(6, dtype=torch.float64), []
    for _ in range(7):
        before = agent.balance.mean.weight.detach().clone()
        agent.update(batch)
        moved.append(not torch.equal(before, agent.balance.mean.weight))
    assert moved == [False, False, True, False, False, True, False]


def test_the_instruments_target_has_nothing_beyond_the_end() -> None:
    agent, b = make(critics=3), random_batch(6, dtype=torch.float64)
    actions = agent.act(b.next_observations, deterministic=True).numpy()
    following = reference.q_values(agent.target_critic, b.next_observations.numpy(), actions).min(0)
    expected = b.rewards.numpy() + 0.99 * np.where(b.terminated.numpy(), 0.0, following)
    found = agent.td_target(b)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    assert not found.requires_grad
    assert not any(p.requires_grad for p in agent.target_critic.parameters())
