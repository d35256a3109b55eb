"""However updates are run, they are the same updates."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from balrl.agent import Metrics
from balrl.agents import Agent
from balrl.execution.updates import CompiledUpdates, EagerUpdates, GraphUpdates, PreciseUpdates, choose_updates
from balrl.on_policy import RolloutBuffer
from balrl.replay import MixedReplay, ReplayBuffer
from balrl.replay_kind import replay_kind
from balrl.saved_agent import phase_state
from tests.agents.test_all import AGENTS, REPLAYING
from tests.conftest import random_batch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build(name: str, device: str = "cpu") -> Agent:
    torch.manual_seed(0)
    cls, config = AGENTS[name]
    agent = cls(gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,)), config, device)
    agent.set_phase("offline", 100)
    return agent


def filled(agent: Agent, rows: int = 300) -> ReplayBuffer:
    torch.manual_seed(1)
    buffer = replay_kind(agent)(1000, 3, 2, agent.device, agent.fields_in("offline"))
    buffer.add(random_batch(rows, reward_dim=agent.reward_dim), torch.arange(rows) % 4 == 3)
    return buffer


def update_of(agent: Agent, sampler: ReplayBuffer | MixedReplay, utd: int = 1) -> Callable[[], Metrics]:
    return lambda: agent.update_utd(sampler.sample(16, utd, agent.stream), utd)


def assert_same(one: Agent, other: Agent, tolerance: float) -> None:
    for (key, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
    for (key, x), y in zip(one.optimizer_state().items(), other.optimizer_state().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=10 * tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
    assert phase_state(one) == phase_state(other)


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
            buffer.add(random_batch(5, reward_dim=agent.reward_dim))
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
    online = replay_kind(agent)(50, 3, 2, fields=agent.fields_in("offline"))
    online.add(random_batch(30, reward_dim=agent.reward_dim))
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


def test_choice() -> None:
    agent = build("iql")

    def chosen(mode: Any, planned: float) -> object:
        return choose_updates(mode, agent, planned, print).inner

    assert isinstance(chosen("auto", 19_999), EagerUpdates)
    assert isinstance(chosen("auto", 20_000), CompiledUpdates)
    assert isinstance(chosen("on", 1), CompiledUpdates)
    assert isinstance(chosen("off", 1e9), EagerUpdates)


def test_updates_have_a_precision_of_their_own() -> None:
    """Their products are computed in it, whatever the process has set, which is put back."""
    agent, seen = build("iql"), []
    inner = SimpleNamespace(block=7, run=lambda *_: seen.append(torch.get_float32_matmul_precision()) or {})
    torch.set_float32_matmul_precision("high")
    try:
        for precision in ("float32", "bf16-mixed"):
            updates = PreciseUpdates(inner, precision, agent.device)  # type: ignore[arg-type]
            assert updates.block == 7
            updates.run(dict, "update")
        assert seen == ["highest", "medium"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
