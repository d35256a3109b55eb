"""Each member of a population is what it would be alone."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import Agent
from balrl.errors import UserError
from balrl.execution.compiling import Compiler
from balrl.execution.population import Population
from balrl.execution.updates import CompiledUpdates
from balrl.replay import MixedReplay, ReplayBuffer
from balrl.replay_kind import replay_kind
from tests.agents.test_all import AGENTS, ONE_OF_EACH_CLASS, REPLAYING
from tests.conftest import others_marked, random_batch
from tests.execution.test_updates import NoHost, assert_same, update_of

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


@pytest.fixture(autouse=True)
def penalty_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.optim.CACHED", 100)


def make(name: str, seed: int, **settings: float) -> Agent:
    torch.manual_seed(seed)
    cls, config = AGENTS[name]
    if settings:
        config = config.model_copy(update=settings)
    agent = cls(*SPACES, config)
    agent.set_phase("offline", 100)
    return agent


def logged(agent: Agent) -> ReplayBuffer:
    torch.manual_seed(1)
    buffer = replay_kind(agent)(300, 3, 2, fields=agent.fields_in("offline"))
    buffer.add(random_batch(300, reward_dim=agent.reward_dim), torch.arange(300) % 4 == 3)
    return buffer


def online(agent: Agent, seed: int) -> ReplayBuffer:
    buffer = replay_kind(agent)(100, 3, 2, fields=agent.fields_in("online"))
    torch.manual_seed(100 + seed)
    buffer.add(random_batch(20 + seed, reward_dim=agent.reward_dim), torch.arange(20 + seed) % 4 == 3)
    return buffer


@pytest.mark.parametrize("name", others_marked(REPLAYING, ONE_OF_EACH_CLASS, pytest.mark.exhaustive))
def test_a_member_that_is_out_of_step_gets_the_same_numbers(name: str) -> None:
    """To the bit: with the others or without, and the others are left as they were."""
    together, apart = ([make(name, seed) for seed in range(3)] for _ in range(2))
    shared = logged(together[0])
    one, other = (Population(members, [[shared]] * 3) for members in (together, apart))
    for _ in range(3):
        one.batched(update_of(together[0], shared))()
        for indices in ((2, 0), (1,)):
            with other.only(indices):
                other.batched(update_of(apart[indices[0]], shared), indices[0])()
    for a, b in zip(together, apart, strict=True):
        assert a.phase_updates == b.phase_updates == 3
        for state in (Agent.state_dict, Agent.optimizer_state):
            assert all(value.equal(state(b)[key]) for key, value in state(a).items())


def assert_population_equals_solo(solo: list[Agent], members: list[Agent], shared: ReplayBuffer) -> None:
    population = Population(members, [[shared]] * len(members))
    for _ in range(5):
        for agent in solo:
            update_of(agent, shared)()
        population.batched(update_of(members[0], shared))()
    for alone, member in zip(solo, members, strict=True):
        assert_same(alone, member, tolerance=1e-5)


@pytest.mark.parametrize("name", others_marked(REPLAYING, ONE_OF_EACH_CLASS, pytest.mark.exhaustive))
def test_members_equal_their_solo_runs(name: str) -> None:
    """Parameters, moments and streams after 20 updates, half on shared and half on growing data of their own: 1e-5."""
    solo, members = ([make(name, seed) for seed in range(3)] for _ in range(2))
    shared = logged(solo[0])
    buffers, own = ([online(agent, seed) for seed, agent in enumerate(solo)] for _ in range(2))
    population = Population(members, [[shared, buffer] for buffer in own])
    for _ in range(10):
        expected = [update_of(agent, shared)() for agent in solo]
        metrics = population.batched(update_of(members[0], shared))()
    for key, values in metrics.items():
        torch.testing.assert_close(values, torch.stack([m[key] for m in expected]), rtol=1e-4, atol=1e-4)
    for agent in [*solo, *members]:
        agent.set_phase("online", 100)
    mixed = name != "bc"
    for step in range(10):
        for seed in range(3):
            for buffer in (buffers[seed], own[seed]):
                torch.manual_seed(1000 * step + seed)
                buffer.add(random_batch(2 + seed, reward_dim=agent.reward_dim))
            sampler = MixedReplay(shared, buffers[seed], 0.5) if mixed else buffers[seed]
            update_of(solo[seed], sampler, 2)()
        by = step % 3  # whose update it is makes no difference
        sampler = MixedReplay(shared, own[by], 0.5) if mixed else own[by]
        population.batched(update_of(members[by], sampler, 2), by)()
    for alone, member in zip(solo, members, strict=True):
        assert_same(alone, member, tolerance=1e-5)


def test_members_are_rows_of_the_stacks_and_still_agents() -> None:
    members = [make("iql", seed) for seed in range(2)]
    observations = torch.randn(5, 3)
    before = [member.act(observations, deterministic=True) for member in members]
    population = Population(members, [[], []])
    for member, actions in zip(members, before, strict=True):
        assert torch.equal(member.act(observations, deterministic=True), actions)
    shared = logged(members[0])
    population.batched(update_of(members[0], shared))()
    for member, actions in zip(members, before, strict=True):
        assert not torch.equal(member.act(observations, deterministic=True), actions)
    assert isinstance(members[0].optimizers["policy"], torch.optim.Adam)  # its own is back in its place
    update_of(members[1], shared)()  # and a member can go on alone
    assert [member.phase_updates for member in members] == [1, 2]


NUMBERS = {
    "iql": ("expectile", "max_weight", "discount", "polyak", "policy_learning_rate", "critic_learning_rate"),
    "sac": ("discount", "polyak", "temperature_learning_rate", "target_entropy_per_dimension", "initial_temperature"),
    "cql": ("alpha", "penalty_temperature", "polyak"),
    "cql-lagrange": ("target_gap", "alpha_learning_rate"),
    "bc": ("learning_rate",),
}


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, all_ in NUMBERS.items() for number in all_])
def test_members_may_differ_in_a_number(name: str, number: str) -> None:
    base = getattr(AGENTS[name][1], number)
    values = [base, 0.7 * base, 0.4 * base] if number != "max_weight" else [base, 1.0, 0.5]
    solo, members = ([make(name, 0, **{number: value}) for value in values] for _ in range(2))
    assert_population_equals_solo(solo, members, logged(solo[0]))
    ends = [torch.cat([x.flatten() for x in agent.state_dict().values()]) for agent in members]
    assert not torch.allclose(ends[0], ends[1], rtol=1e-6, atol=1e-7)  # the number does something


def test_members_may_differ_in_their_balance() -> None:
    from balrl.agents.hyperparameters import FixedBalance, StateAdaptiveBalance

    for name, balances in {
        "iql": [FixedBalance(1.0), FixedBalance(4.0)],
        "famo2o-iql": [StateAdaptiveBalance(1.0, 5.0, hidden=(8,)), StateAdaptiveBalance(0.5, 9.0, hidden=(8,))],
    }.items():
        cls, config = AGENTS[name]
        solo, members = [], []
        for kept in (solo, members):
            for balance in balances:
                torch.manual_seed(0)
                kept.append(cls(*SPACES, config.model_copy(update={"balance": balance})))
        assert_population_equals_solo(solo, members, logged(solo[0]))


@pytest.mark.parametrize("name", ["iql", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cql", "redq"))])
def test_a_population_s_update_compiles(name: str) -> None:
    """What compilers are given is the same: recorded and functional, 1e-5."""
    written, compiled = ([make(name, seed) for seed in range(2)] for _ in range(2))
    shared = logged(written[0])
    one, other = Population(written, [[shared]] * 2), Population(compiled, [[shared]] * 2)
    updates = CompiledUpdates(other, Compiler(other, backend="aot_eager"))
    for _ in range(10):
        one.batched(update_of(written[0], shared))()
    updates.run(other.batched(update_of(compiled[0], shared)), "offline", 10)
    for alone, member in zip(written, compiled, strict=True):
        assert_same(alone, member, tolerance=1e-5)


def test_a_population_s_update_asks_the_host_for_nothing() -> None:
    members = [make("cql", seed) for seed in range(2)]
    shared = logged(members[0])
    update = Population(members, [[shared]] * 2).batched(update_of(members[0], shared))
    with NoHost():
        update()


def test_a_member_that_is_not_a_number_harms_no_other() -> None:
    members, solo = [make("iql", seed) for seed in range(2)], make("iql", 1)
    shared = logged(solo)
    population = Population(members, [[shared]] * 2)
    with torch.no_grad():
        next(members[0].policy.parameters()).fill_(float("nan"))
        next(members[0].critic.parameters()).fill_(float("nan"))
    for _ in range(5):
        update_of(solo, shared)()
        population.batched(update_of(members[0], shared))()
    assert_same(solo, members[1], tolerance=1e-5)


def test_stacks_that_do_not_fit_are_refused_before_anything_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [make("iql", seed) for seed in range(2)]
    own = [online(member, seed) for seed, member in enumerate(members)]
    kept = own[0].storage
    monkeypatch.setattr("balrl.replay.free_memory", lambda _: 10_000)
    with pytest.raises(UserError, match=r"lower replay.capacity"):
        Population(members, [[buffer] for buffer in own])
    assert own[0].storage is kept
