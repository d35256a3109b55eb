"""Captured updates are the written ones, on whichever device, and what cannot be captured is written out."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import IQL, PPO, Agent
from balrl.agents.hyperparameters import IQLConfig, PPOConfig
from balrl.batch import TRANSITION, Batch
from balrl.execution import updates as execution
from balrl.execution.compiling import Compiler
from balrl.execution.population import Population
from balrl.execution.updates import CompiledUpdates, EagerUpdates, GraphUpdates, choose_updates
from balrl.on_policy import RolloutBuffer
from balrl.replay import ReplayBuffer
from balrl.replay_kind import replay_kind
from tests.agents.test_all import AGENTS, FIVE_KINDS, ONE_OF_EACH_CLASS, REPLAYING
from tests.conftest import others_marked, random_batch
from tests.execution.test_updates import assert_same, update_of
from tests.stand_in.device import OPERATIONS, WAITS

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BLOCK", 5)


def build(name: str, device: str = "cuda:0") -> Agent:
    torch.manual_seed(0)
    cls, config = AGENTS[name]
    agent = cls(*SPACES, config, device)
    agent.set_phase("offline", 100)
    return agent


def filled(agent: Agent) -> ReplayBuffer:
    torch.manual_seed(1)
    buffer = replay_kind(agent)(200, 3, 2, agent.device, agent.fields_in("offline"))
    buffer.add(random_batch(60, reward_dim=agent.reward_dim), torch.arange(60) % 4 == 3)
    return buffer


def rollouts(agent: PPO, steps: int) -> RolloutBuffer:
    torch.manual_seed(2)
    made = RolloutBuffer(steps, 4, 3, 2, 1, 4, agent.device)
    for _ in range(steps):
        plain = Batch(*(getattr(random_batch(4), name).to(agent.device) for name in TRANSITION))
        made.add(plain, torch.zeros(4, dtype=torch.bool, device=agent.device))
    return made


@pytest.mark.parametrize("name", others_marked(REPLAYING, ONE_OF_EACH_CLASS, pytest.mark.exhaustive))
def test_a_captured_update_is_the_written_one(name: str) -> None:
    check_captured(name, "cuda:0")


@pytest.mark.parametrize("name", ["iql", "redq", "famo2o-cql"])
def test_a_captured_update_is_the_written_one_on_the_second_device(name: str) -> None:
    check_captured(name, "cuda:1")


def check_captured(name: str, device: str) -> None:
    """Parameters, targets, moments, streams and counts, in both phases, in whole blocks and single updates."""
    written, captured = build(name, device), build(name, device)
    graphs = GraphUpdates(captured, pytest.fail)
    for agent, runs in ((written, EagerUpdates()), (captured, graphs)):
        buffer = filled(agent)
        runs.run(update_of(agent, buffer), "offline", 7)
        agent.set_phase("online", 50)
        for extra in range(3):
            torch.manual_seed(extra)
            buffer.add(random_batch(5, reward_dim=agent.reward_dim))
            runs.run(update_of(agent, buffer, 2), "online")
    assert_same(written, captured, tolerance=0)
    assert all(len(graph.graph) > 10 for graph in graphs._graphs.values())


@pytest.mark.parametrize("name", others_marked(REPLAYING, FIVE_KINDS, pytest.mark.exhaustive))
def test_a_captured_record_is_the_written_update(name: str) -> None:
    """Recorded for a GPU, as a compiler gets it, and captured: the same to rounding, in fewer operations."""
    written, captured = build(name), build(name)
    recorded = CompiledUpdates(captured, Compiler(captured, pytest.fail, backend="eager"))
    recorded.compiler.notice = lambda line: None if line.startswith("compiling") else pytest.fail(line)
    for agent, runs in ((written, EagerUpdates()), (captured, GraphUpdates(captured, pytest.fail, recorded))):
        buffer = filled(agent)
        runs.run(update_of(agent, buffer), "offline", 7)
        agent.set_phase("online", 50)
        for extra in range(3):
            torch.manual_seed(extra)
            buffer.add(random_batch(5, reward_dim=agent.reward_dim))
            runs.run(update_of(agent, buffer, 2), "online")
    assert_same(written, captured, tolerance=1e-5)
    assert not recorded.compiler.failed


@pytest.mark.parametrize("name", REPLAYING)
def test_no_update_waits_for_the_device(name: str) -> None:
    agent = build(name)
    buffer = filled(agent)
    WAITS.clear()
    update_of(agent, buffer)()
    assert not WAITS


@pytest.mark.parametrize("batches", [1, 2, 6])
def test_ppo_is_captured_with_as_few_batches_left_as_there_may_be(batches: int) -> None:
    agents = [PPO(*SPACES, PPOConfig(hidden=(8, 8)), "cuda") for _ in range(2)]
    agents[1].load_state_dict(agents[0].state_dict())
    for agent, runs in zip(agents, (EagerUpdates(), GraphUpdates(agents[1], pytest.fail)), strict=True):
        agent.set_phase("online")
        agent.stream.reseed(5)
        made = rollouts(agent, batches)
        agent.compute_advantages(made)
        assert made.shuffle(agent.stream, agent.clock) == batches
        runs.run(lambda a=agent, m=made: a.update(m.batch(a.clock)), "rollouts", batches)
    assert_same(*agents, tolerance=0)


def test_a_member_of_a_population_can_go_on_alone() -> None:
    members = [IQL(*SPACES, IQLConfig(hidden=(8, 8)), "cuda") for _ in range(3)]
    for member in members:
        member.set_phase("offline", 100)
    shared = filled(members[0])
    population = Population(members, [[shared]] * 3)
    updates = GraphUpdates(population, pytest.fail)
    updates.run(population.batched(update_of(members[0], shared)), "offline of 0", 6)
    before = [p.clone() for p in members[1].policy.parameters()]
    update_of(members[1], shared)()
    assert any(not torch.equal(p, q) for p, q in zip(members[1].policy.parameters(), before, strict=True))
    assert [member.phase_updates for member in members] == [6, 7, 6]


def test_what_cannot_be_captured_runs_as_written_and_one_notice_says_why() -> None:
    agent, plain, heard = build("iql"), build("iql"), []
    buffers = filled(agent), filled(plain)
    runs = choose_updates("auto", agent, 10, heard.append)

    def asks(one: Agent, buffer: ReplayBuffer):  # type: ignore[no-untyped-def]
        def update() -> dict[str, torch.Tensor]:
            found = update_of(one, buffer)()
            float(found["critic/loss"])
            return found

        return update

    runs.run(asks(agent, buffers[0]), "offline", 7)
    runs.run(asks(agent, buffers[0]), "offline", 3)
    EagerUpdates().run(asks(plain, buffers[1]), "offline", 10)
    assert_same(agent, plain, tolerance=0)
    assert len(heard) == 1
    assert "updates run as they are written, not as a CUDA graph" in heard[0]
    assert "_local_scalar_dense" in heard[0]


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_a_seed_gives_the_same_first_weights_and_first_draws_on_every_device(name: str) -> None:
    here, there = build(name, "cpu"), build(name, "cuda:1")
    for (key, x), y in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
        assert y.device == torch.device("cuda:1"), key
        assert torch.equal(x, y.cpu()), key
    assert torch.equal(here.stream.integers(10**6, 50), there.stream.integers(10**6, 50).cpu())
    assert torch.equal(here.stream.uniform(50), there.stream.uniform(50).cpu())


def test_the_stand_in_refuses_what_a_gpu_would() -> None:
    one, other = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
    for mixed in (lambda: one + torch.ones(3), lambda: one + other):
        with pytest.raises(RuntimeError, match="on the same device"):
            mixed()
    with pytest.raises(RuntimeError, match="out of range"):
        one.index_select(0, torch.tensor([3], device="cuda:0"))
    with pytest.raises(TypeError, match="to numpy"):
        one.numpy()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.ones(3, device="cuda:2")
    WAITS.clear()
    OPERATIONS.clear()
    assert one.sum().item() == 3
    assert sum(WAITS.values()) == 1
    assert OPERATIONS["sum"] == 1
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(graph):
        one.sum().item()
    graph, total = torch.cuda.CUDAGraph(), torch.zeros((), device="cuda:0")
    with torch.cuda.graph(graph):
        total.add_(2)
        other.add_(1)  # on another device: not in the graph
    assert total.item() == 0
    graph.replay()
    graph.replay()
    assert total.item() == 4
    with torch.cuda.device("cuda:1"), pytest.raises(RuntimeError, match="replayed on the stream of cuda:1"):
        graph.replay()
