"""However updates are run, they are the same updates."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from balrl.agent import Metrics, Phase
from balrl.agents import Agent
from balrl.execution.updates import CompiledUpdates, EagerUpdates, GraphUpdates, choose_updates
from balrl.on_policy import RolloutBuffer
from balrl.replay import MixedReplay, ReplayBuffer
from tests.agents.test_all import AGENTS, REPLAYING
from tests.conftest import random_batch

STEPS = 20
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build(name: str, device: str = "cpu") -> Agent:
    torch.manual_seed(0)
    cls, config = AGENTS[name]
    agent = cls(gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,)), config, device)
    agent.set_phase("offline", 100)
    return agent


def filled(agent: Agent, rows: int = 300) -> ReplayBuffer:
    torch.manual_seed(1)
    buffer = ReplayBuffer(1000, 3, 2, agent.device, agent.fields_in("offline"))
    buffer.add(random_batch(rows))
    return buffer


def update_of(agent: Agent, sampler: ReplayBuffer | MixedReplay, utd: int = 1) -> Callable[[], Metrics]:
    return lambda: agent.update_utd(sampler.sample(16, utd, agent.stream), utd)


def assert_same(one: Agent, other: Agent, tolerance: float) -> None:
    for (key, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
    for (key, x), y in zip(one.optimizer_state().items(), other.optimizer_state().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=10 * tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
    assert one.phase_state() == other.phase_state()


def run_both(name: str, backend: str, phases: tuple[Phase, ...], utd: int = 1) -> tuple[Agent, Agent]:
    """Run updates as they are written and compiled, on a replay that grows meanwhile."""
    agents = build(name), build(name)
    for agent, updates in zip(agents, (EagerUpdates(), CompiledUpdates(agents[1], backend=backend)), strict=True):
        buffer = filled(agent)
        for phase in phases:
            agent.set_phase(phase, 50)
            for extra in range(STEPS // len(phases)):
                torch.manual_seed(extra)
                buffer.add(random_batch(5))
                metrics = updates.run(update_of(agent, buffer, utd), "update")
        assert all(torch.isfinite(value) for value in metrics.values())
    return agents


@pytest.mark.parametrize("name", REPLAYING)
def test_a_recorded_update_is_the_written_one(name: str) -> None:
    """Parameters, targets, moments and streams after 20 updates, to 1e-5, with nothing but the record run."""
    assert_same(*run_both(name, "eager", ("offline",)), tolerance=1e-5)


@pytest.mark.parametrize("name", ["bc-tanh-dropout", "famo2o-iql", "calql", "famo2o-cql"])
def test_a_functional_update_is_the_written_one(name: str) -> None:
    """The same when a compiler has turned changes in place into values."""
    assert_same(*run_both(name, "aot_eager", ("offline",)), tolerance=1e-5)


@pytest.mark.parametrize(("name", "utd"), [("iql", 1), pytest.param("redq", 2, marks=pytest.mark.slow)])
def test_a_compiled_update_is_the_written_one(name: str, utd: int) -> None:
    """The same through the real compiler, to 1e-4."""
    assert_same(*run_both(name, "inductor", ("offline",), utd), tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", REPLAYING)
def test_every_compiled_update_is_the_written_one(name: str) -> None:
    """For every agent, in both phases."""
    assert_same(*run_both(name, "inductor", ("offline", "online")), tolerance=1e-4)


@pytest.mark.skipif(DEVICE == "cpu", reason="captured graphs need a GPU, none is here")
@pytest.mark.parametrize("name", REPLAYING)
def test_a_captured_update_is_the_written_one(name: str) -> None:
    agents = build(name, DEVICE), build(name, DEVICE)
    for agent, updates in zip(agents, (EagerUpdates(), GraphUpdates(agents[1])), strict=True):
        buffer = filled(agent)
        updates.run(update_of(agent, buffer), "offline", 53)
        agent.set_phase("online", 50)
        for extra in range(5):
            torch.manual_seed(extra)
            buffer.add(random_batch(5))
            updates.run(update_of(agent, buffer), "online")
    assert_same(*agents, tolerance=1e-4)


class NoHost(TorchDispatchMode):
    """Fails where an operation needs the host to know a tensor's value."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "aten.equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(word in str(func) for word in self.FORBIDDEN), f"{func} asks the host"
        if "aten.index." in str(func):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "an index of unknown length"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", REPLAYING)
def test_no_update_asks_the_host(name: str) -> None:
    agent = build(name)
    buffer = filled(agent)
    online = ReplayBuffer(50, 3, 2, fields=agent.fields_in("offline"))
    online.add(random_batch(30))
    for phase, sampler in (("offline", buffer), ("online", MixedReplay(buffer, online, 0.5))):
        agent.set_phase(phase, 10)
        with NoHost():
            update_of(agent, sampler)()
            update_of(agent, sampler, 2)()


def test_no_update_from_rollouts_asks_the_host() -> None:
    agent = build("ppo")
    agent.set_phase("online")
    rollouts = RolloutBuffer(4, 3, 3, 2, 2, 5)
    for _ in range(4):
        rollouts.add(random_batch(3), torch.tensor([True, False, False]))
    agent.compute_advantages(rollouts)
    rollouts.shuffle(agent.stream, agent.clock)
    with NoHost():
        agent.update(rollouts.batch(agent.clock))


def test_the_guard_against_the_host_works() -> None:
    for forbidden in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: bool(x.any())):
        with pytest.raises(AssertionError), NoHost():
            forbidden(torch.ones(3))


def test_nothing_is_compiled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function for what differs, however often it runs, the replay grows, and whatever it is called."""
    agent, compilations = build("famo2o-iql"), []
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda _: lambda graph, __: compilations.append(1) or graph)
    agent.balance.every = 3
    updates, buffer = CompiledUpdates(agent), filled(agent)
    for _ in range(10):
        buffer.add(random_batch(3))
        updates.run(update_of(agent, buffer), "offline")
    assert len(compilations) == 2  # with and without the balance model's step
    updates.run(update_of(agent, buffer), "another", 3)
    assert len(compilations) == 2
    agent.set_phase("online", 10)
    updates.run(update_of(agent, buffer), "offline", 5)
    assert len(compilations) == 4


def test_tracing_changes_nothing() -> None:
    """What compiling tries out is undone: state, moments, streams and counts."""
    agent, untouched = build("famo2o-cql"), build("famo2o-cql")
    updates = CompiledUpdates(agent, backend="eager")
    updates._compile(update_of(agent, filled(agent)), "offline")
    assert_same(agent, untouched, tolerance=0)


def test_without_a_compiler_updates_run_as_written_and_one_notice_says_so() -> None:
    notices: list[str] = []
    agent, plain = build("iql"), build("iql")
    updates = CompiledUpdates(agent, notices.append, backend="no such backend")
    assert updates.run(update_of(agent, filled(agent)), "offline")
    updates.run(update_of(agent, filled(agent)), "offline", 7)
    updates.run(update_of(agent, filled(agent)), "online", 2)
    EagerUpdates().run(update_of(plain, filled(plain)), "offline", 10)
    assert plain.phase_updates == 10
    assert_same(agent, plain, tolerance=0)
    assert [line.split(":")[0] for line in notices] == [
        "compiling the updates; the first time takes about half a minute (--compile off",
        "updates run uncompiled",
    ]


def test_a_compiler_that_fails_later_loses_no_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second variant does not compile: what was compiled is kept for nothing, and every update is still made."""
    agent, plain = build("famo2o-iql"), build("famo2o-iql")
    agent.balance.every = plain.balance.every = 2
    updates = CompiledUpdates(agent, backend="eager")
    inner = updates._compile

    def once(*arguments: object) -> object:
        if updates._compiled:
            raise RuntimeError("no memory")
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(updates, "_compile", once)
    updates.run(update_of(agent, filled(agent)), "offline", 5)
    EagerUpdates().run(update_of(plain, filled(plain)), "offline", 5)
    assert_same(agent, plain, tolerance=1e-5)


def test_an_update_that_asks_for_a_value_is_not_compiled() -> None:
    agent, notices = build("iql"), []
    buffer = filled(agent)

    def asks() -> Metrics:
        metrics = update_of(agent, buffer)()
        return metrics if agent.normalizer.mean.sum().item() == 0 else {}

    CompiledUpdates(agent, notices.append, "eager").run(asks, "offline")
    assert "trying to get value out of a tracing tensor" in notices[-1]


def test_choice() -> None:
    agent = build("iql")
    assert isinstance(choose_updates("auto", agent, 19_999, print), EagerUpdates)
    assert isinstance(choose_updates("auto", agent, 20_000, print), CompiledUpdates)
    assert isinstance(choose_updates("on", agent, 1, print), CompiledUpdates)
    assert isinstance(choose_updates("off", agent, 1e9, print), EagerUpdates)
