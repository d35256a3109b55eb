"""A compiled update is the written one."""

from __future__ import annotations

import pytest
import torch

from balrl.agent import Metrics, Phase
from balrl.agents import Agent
from balrl.execution import compiling
from balrl.execution.compiling import Compiler
from balrl.execution.updates import CompiledUpdates, EagerUpdates
from tests.agents.test_all import FIVE_KINDS, ONE_OF_EACH_CLASS, REPLAYING
from tests.conftest import others_marked, random_batch
from tests.execution.test_updates import assert_same, build, filled, update_of

STEPS = 20


def run_both(name: str, backend: str, phases: tuple[Phase, ...], utd: int = 1) -> tuple[Agent, Agent]:
    """Run updates as they are written and compiled, on a replay that grows meanwhile."""
    agents = build(name), build(name)
    for agent, updates in zip(
        agents, (EagerUpdates(), CompiledUpdates(agents[1], Compiler(agents[1], backend=backend))), strict=True
    ):
        buffer = filled(agent)
        for phase in phases:
            agent.set_phase(phase, 50)
            for extra in range(STEPS // len(phases)):
                torch.manual_seed(extra)
                buffer.add(random_batch(5, reward_dim=agent.reward_dim))
                metrics = updates.run(update_of(agent, buffer, utd), "update")
        assert all(torch.isfinite(value) for value in metrics.values())
    return agents


@pytest.mark.parametrize("name", others_marked(REPLAYING, ONE_OF_EACH_CLASS, pytest.mark.exhaustive))
def test_a_recorded_update_is_the_written_one(name: str) -> None:
    """Parameters, targets, moments and streams after 20 updates, to 1e-5, with nothing but the record run."""
    assert_same(*run_both(name, "eager", ("offline",)), tolerance=1e-5)


@pytest.mark.parametrize(
    ("name", "utd"), [("bc-tanh-dropout", 1), ("famo2o-iql", 1), pytest.param("redq", 2, marks=pytest.mark.slow)]
)
def test_a_functional_update_is_the_written_one(name: str, utd: int) -> None:
    """The same when a compiler has turned changes in place into values; others are slow or exhaustive."""
    assert_same(*run_both(name, "aot_eager", ("offline",), utd), tolerance=1e-5)


@pytest.mark.parametrize(("name", "utd"), [("iql", 1), pytest.param("redq", 2, marks=pytest.mark.exhaustive)])
def test_a_compiled_update_is_the_written_one(name: str, utd: int) -> None:
    """The same through the real compiler, to 1e-4."""
    assert_same(*run_both(name, "inductor", ("offline",), utd), tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", others_marked(REPLAYING, ONE_OF_EACH_CLASS, pytest.mark.exhaustive))
def test_every_functional_update_is_the_written_one(name: str) -> None:
    """In both phases."""
    assert_same(*run_both(name, "aot_eager", ("offline", "online")), tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", others_marked(REPLAYING, FIVE_KINDS, pytest.mark.exhaustive))
def test_every_compiled_update_is_the_written_one(name: str) -> None:
    """Through the real compiler, which takes up to a minute each."""
    assert_same(*run_both(name, "inductor", ("offline", "online")), tolerance=1e-4)


@pytest.mark.slow
def test_nothing_is_compiled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function for what differs, however often it runs, the replay grows, and whatever it is called."""
    agent, compilations = build("famo2o-iql"), []
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda _: lambda graph, __: compilations.append(1) or graph)
    agent.balance.every = 3
    updates, buffer = CompiledUpdates(agent, Compiler(agent)), filled(agent)
    for _ in range(10):
        buffer.add(random_batch(3, reward_dim=agent.reward_dim))
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
    compiler = Compiler(agent, backend="eager")
    compiler.compiled(update_of(agent, filled(agent)), "offline")
    assert_same(agent, untouched, tolerance=0)


def test_without_a_compiler_updates_run_as_written_and_one_notice_says_so() -> None:
    notices: list[str] = []
    agent, plain = build("iql"), build("iql")
    updates = CompiledUpdates(agent, Compiler(agent, notices.append, "no such backend"))
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
    compiler = Compiler(agent, backend="eager")
    updates, inner = CompiledUpdates(agent, compiler), compiler._compile

    def once(*arguments: object) -> object:
        if compiler._compiled:
            raise RuntimeError("no memory")
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "_compile", once)
    updates.run(update_of(agent, filled(agent)), "offline", 5)
    EagerUpdates().run(update_of(plain, filled(plain)), "offline", 5)
    assert_same(agent, plain, tolerance=1e-5)


def test_what_fails_is_compiled_more_carefully(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and all that follows at once so; a device for which there is no careful way hears of the failure."""
    notices: list[str] = []
    tried: list[bool] = []
    agent = build("famo2o-iql")
    agent.balance.every = 2
    compiler = Compiler(agent, notices.append, backend="eager")
    inner = compiler._function

    def failing(traced: object, options: object) -> object:
        tried.append(bool(options))
        if not options:
            raise AssertionError
        return inner(traced, options)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "_function", failing)
    monkeypatch.setattr(compiling, "CAREFULLY", {"cpu": {"max_fusion_size": 8}})
    CompiledUpdates(agent, compiler).run(update_of(agent, filled(agent)), "offline", 4)
    assert tried == [False, True, True]
    assert not any("uncompiled" in line for line in notices)
    monkeypatch.setattr(compiling, "CAREFULLY", {})
    other = Compiler(build("iql"), notices.append, backend="eager")
    monkeypatch.setattr(other, "_function", failing)
    assert other.compiled(update_of(other.agent, filled(other.agent)), "offline") is None  # type: ignore[arg-type]
    assert "uncompiled" in notices[-1]


def test_an_update_that_asks_for_a_value_is_not_compiled() -> None:
    agent, notices = build("iql"), []
    buffer = filled(agent)

    def asks() -> Metrics:
        metrics = update_of(agent, buffer)()
        return metrics if agent.normalizer.mean.sum().item() == 0 else {}

    CompiledUpdates(agent, Compiler(agent, notices.append, "eager")).run(asks, "offline")
    assert "trying to get value out of a tracing tensor" in notices[-1]
