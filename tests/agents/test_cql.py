from __future__ import annotations

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import CQL, SAC, CQLConfig, SACConfig, StateAdaptiveBalance
from balrl.batch import Batch
from balrl.random_stream import RandomStream
from tests.agents import reference
from tests.conftest import random_batch

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))
N, ROWS = 3, 5


def make(cls: Any = CQL, **config: object) -> Any:
    agent = cls(*SPACES, cls.config_type(hidden=(5, 4), sampled_actions=N, **config)).double()
    for p in agent.target_critic.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return agent


def drawn(agent: CQL, b: Batch, seed: int, members: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sampled actions ``[3N, B, 2]``, their log-densities, and Q ``[members, 3N, B]`` by hand."""
    agent.stream.reseed(seed)
    chosen = agent.stream.subset(members, agent.config.critics).numpy() if members else np.arange(agent.config.critics)
    uniform = 2 * agent.stream.uniform(N, ROWS, 2, dtype=torch.float64).numpy() - 1
    here, here_log = reference.tanh_gaussian(
        agent.policy, b.observations.numpy(), agent.stream.normal(N, ROWS, 2, dtype=torch.float64).numpy()
    )
    there, there_log = reference.tanh_gaussian(
        agent.policy, b.next_observations.numpy(), agent.stream.normal(N, ROWS, 2, dtype=torch.float64).numpy()
    )
    actions = np.concatenate([uniform, here, there])
    logs = np.concatenate([np.full((N, ROWS), math.log(0.5**2)), here_log, there_log])
    q = np.stack([reference.q_values(agent.critic, b.observations.numpy(), a)[chosen] for a in actions], 1)
    return actions, logs, q


def penalty(q: np.ndarray, logs: np.ndarray, data_q: np.ndarray, temperature: float = 1.0) -> float:
    """The importance-corrected penalty, loop by loop."""
    total = 0.0
    for member in range(q.shape[0]):
        for row in range(ROWS):
            terms = [(q[member, k, row] - logs[k, row]) / temperature for k in range(3 * N)]
            total += temperature * math.log(sum(math.exp(t) for t in terms)) - data_q[member, row]
    return total / (q.shape[0] * ROWS)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_penalty_with_importance_sampling(temperature: float) -> None:
    agent, b = make(critics=3, penalty_temperature=temperature), random_batch(ROWS, dtype=torch.float64)
    _, logs, q = drawn(agent, b, seed=7)
    data_q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    agent.stream.reseed(7)
    assert agent.penalty(b).item() == pytest.approx(penalty(q, logs, data_q, temperature), rel=1e-9)


def test_penalty_without_importance_sampling() -> None:
    agent = make(critics=2, importance_sampling=False, penalty_temperature=2.0)
    b = random_batch(ROWS, dtype=torch.float64)
    _, _, q = drawn(agent, b, seed=7)
    data_q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    expected = 0.0
    for member in range(2):
        for row in range(ROWS):
            terms = [*(math.exp(q[member, k, row] / 2) for k in range(3 * N)), math.exp(data_q[member, row] / 2)]
            expected += 2 * (math.log(sum(terms)) - math.log(3 * N + 1)) - data_q[member, row]
    agent.stream.reseed(7)
    assert agent.penalty(b).item() == pytest.approx(expected / (2 * ROWS), rel=1e-9)


def test_penalty_on_some_members_leaves_the_expected_loss_as_it_is() -> None:
    agent, b = make(critics=5, penalty_members=2), random_batch(ROWS, dtype=torch.float64)
    _, logs, q = drawn(agent, b, seed=7, members=2)
    agent.stream.reseed(7)
    chosen = agent.stream.subset(2, 5).numpy()
    data_q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())[chosen]
    agent.stream.reseed(7)
    found = agent.penalty(b)
    assert found.item() == pytest.approx(penalty(q, logs, data_q), rel=1e-9)
    gradient = torch.autograd.grad(found, agent.critic.head.bias)[0]
    assert (gradient != 0).sum() <= 2


def test_the_loss_is_the_temporal_difference_plus_alpha_times_the_penalty_of_every_member() -> None:
    agent, b = make(critics=3, alpha=2.0), random_batch(ROWS, dtype=torch.float64)
    agent.stream.reseed(7)
    difference, _ = SAC.critic_loss(agent, b)
    expected = difference + 2.0 * 3 * agent.penalty(b)
    agent.stream.reseed(7)
    loss, metrics = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert metrics["critic/alpha"].item() == 2.0


def test_a_learned_alpha_rises_while_the_penalty_exceeds_the_gap() -> None:
    agent = make(target_gap=0.8, alpha=1.0)
    assert agent.alpha().item() == pytest.approx(1.0, rel=1e-6)
    assert agent.alpha_loss(torch.tensor(3.0)).item() == pytest.approx(-1.0 * (3.0 - 0.8), rel=1e-6)
    for value, direction in ((3.0, 1), (0.1, -1)):
        before = agent.alpha().item()
        gradient = torch.autograd.grad(agent.alpha_loss(torch.tensor(value)), agent.raw_alpha)[0]
        assert gradient.item() * direction < 0, before
    b = random_batch(ROWS, dtype=torch.float64)
    agent.stream.reseed(7)
    difference, _ = SAC.critic_loss(agent, b)
    expected = difference + agent.alpha().detach() * 2 * (agent.penalty(b) - 0.8)
    agent.stream.reseed(7)
    loss, _ = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    old = agent.raw_alpha.item()
    metrics = agent.update(b)
    moved = 3e-4 * (1 if metrics["critic/penalty"].item() > 0.8 else -1)
    assert agent.raw_alpha.item() - old == pytest.approx(moved, rel=1e-3)


def test_the_jax_releases_form_of_alpha() -> None:
    agent = make(target_gap=0.8, alpha=5.0, alpha_form="exp")
    assert agent.raw_alpha.item() == 1.0
    assert agent.alpha().item() == pytest.approx(5.0 * math.e, rel=1e-6)
    agent.raw_alpha.data.fill_(50.0)
    assert agent.alpha().item() == pytest.approx(5e6, rel=1e-6)


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_the_target_takes_the_best_of_several_next_actions(backup_entropy: bool) -> None:
    agent = make(critics=3, max_target_actions=4, backup_entropy=backup_entropy)
    b = random_batch(ROWS, dtype=torch.float64)
    agent.stream.reseed(7)
    noise = agent.stream.normal(4, ROWS, 2, dtype=torch.float64).numpy()
    actions, logs = reference.tanh_gaussian(agent.policy, b.next_observations.numpy(), noise)
    q = np.stack([reference.q_values(agent.target_critic, b.next_observations.numpy(), a).min(0) for a in actions])
    best = q.argmax(0)
    expected = q.max(0) - (logs[best, np.arange(ROWS)] if backup_entropy else 0.0)
    agent.stream.reseed(7)
    found = agent.next_value(b, None)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    agent.set_phase("online")  # one action again
    agent.stream.reseed(7)
    noise = agent.stream.normal(ROWS, 2, dtype=torch.float64).numpy()
    action, log = reference.tanh_gaussian(agent.policy, b.next_observations.numpy(), noise)
    q = reference.q_values(agent.target_critic, b.next_observations.numpy(), action).min(0)
    agent.stream.reseed(7)
    single = agent.next_value(b, None)
    np.testing.assert_allclose(single.numpy(), q - (log if backup_entropy else 0.0), rtol=1e-9)


def test_without_its_penalty_online_it_is_soft_actor_critic() -> None:
    cql = make(conservative_online=False, max_target_actions=5, critics=4, target_subset=2, penalty_members=2)
    sac = SAC(*SPACES, SACConfig(hidden=(5, 4), critics=4, target_subset=2)).double()
    sac.load_state_dict(cql.state_dict())
    for agent in (cql, sac):
        agent.set_phase("online")
        for seed in range(3):
            torch.manual_seed(seed)
            agent.stream.reseed(seed)
            agent.update_utd(random_batch(8, dtype=torch.float64), 2)
    for (name, x), y in zip(cql.state_dict().items(), sac.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("target_balance", ["own", "current"])
def test_every_state_that_needs_an_action_gets_its_balance(target_balance: str) -> None:
    family = StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False)
    agent = make(balance=family, target_balance=target_balance)
    b = random_batch(ROWS, dtype=torch.float64)
    seen: list[tuple[str, bool]] = []
    original = agent.balance.sample

    def watch(observations: torch.Tensor, online: bool, stream: RandomStream) -> torch.Tensor:
        seen.append(("s" if torch.equal(observations, b.observations) else "s'", online))
        return original(observations, online, stream)

    agent.balance.sample = watch
    agent.update(b)
    other = ("s'", False) if target_balance == "own" else ("s", True)
    assert seen == [other, ("s", False), other, ("s", False)]  # target, penalty at s, penalty at s', policy


def test_a_narrow_family_is_the_base_algorithm() -> None:
    """With minimum = maximum = 1 and the embedding's weights at zero, the losses equal plain CQL's."""
    plain = make()
    family = make(balance=StateAdaptiveBalance(1.0, 1.0, hidden=(4,), entropy=False))
    state = copy.deepcopy(plain.state_dict())
    weight = family.policy.trunk.layers[0].weight.data
    weight[:3], weight[3:] = state.pop("policy.trunk.layers.0.weight"), 0.0
    family.load_state_dict(state, strict=False)
    b = random_batch(ROWS, dtype=torch.float64)
    plain.balance.sample = lambda o, online, stream: (
        stream.uniform(*o.shape[:-1], dtype=o.dtype).mul(0).add(1)
    )  # the same draws
    found = []
    for agent in (plain, family):
        agent.stream.reseed(1)
        critic, _ = agent.critic_loss(b)
        agent.stream.reseed(2)
        policy, _ = agent.policy_loss(b.observations, torch.ones(ROWS, dtype=torch.float64))
        found.append((critic.item(), policy.item()))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_penalises_what_the_data_does_not_do() -> None:
    """Rewards are zero; data actions lie in the upper half. Q must be lower in the lower half."""
    agent = CQL(*SPACES, CQLConfig(hidden=(32,), sampled_actions=4, alpha=1.0, critic_learning_rate=3e-3))
    for _ in range(200):
        b = random_batch(64)
        agent.update(b._replace(actions=b.actions.abs(), rewards=torch.zeros(64)))
    observations = torch.randn(200, 3)
    inside = agent.q_values(observations, torch.rand(200, 2)).mean()
    outside = agent.q_values(observations, -torch.rand(200, 2)).mean()
    assert inside > outside + 0.5


def test_more_members_than_critics_are_refused() -> None:
    with pytest.raises(ValueError, match="penalty_members 3 is more than the 2 critics"):
        CQLConfig(penalty_members=3)
