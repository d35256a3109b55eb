from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch

from balrl.agents import SAC, SACConfig
from balrl.config import WatchdogConfig
from balrl.watch.advice import PATTERNS
from balrl.watch.instruments import SwitchInstruments
from balrl.watch.watchdog import Watchdog
from tests.conftest import random_batch

SWITCH = {"switch/offline_q": 10.0, "offline_q_std": 2.0, "switch/saturation": 0.1}
HEALTHY = {"switch/offline_q": 9.0, "switch/online_q_max": 90.0, "switch/log_std": -1.0, "switch/saturation": 0.2}


def make(**config: object) -> Watchdog:
    dog = Watchdog(WatchdogConfig(**config), discount=0.99)
    dog.see_rewards(torch.tensor([0.5, -1.0]))
    return dog


def test_health_is_not_reported() -> None:
    assert make().check(5, HEALTHY, SWITCH, [("policy.bias", torch.zeros(2))]) == []


@pytest.mark.parametrize(
    ("values", "pattern", "tensor", "limit"),
    [
        ({"critic/loss": math.nan}, "NaN", "critic/loss", 0.0),
        ({"switch/online_q_max": 301.0}, "Q explosion", "switch/online_q_max", 300.0),
        ({"switch/offline_q": -301.0}, "Q explosion", "switch/offline_q", 300.0),
        ({"switch/offline_q": -0.1}, "Q collapse", "switch/offline_q", 0.0),
        ({"switch/log_std": -5.1}, "entropy collapse", "switch/log_std", -5.0),
        ({"switch/saturation": 0.96}, "saturated actions", "switch/saturation", 0.95),
    ],
)
def test_each_pattern_is_named_once(values: dict[str, float], pattern: str, tensor: str, limit: float) -> None:
    dog = make()
    found = dog.check(1234, HEALTHY | values, SWITCH)
    assert (found[0].pattern, found[0].tensor, found[0].step) == (pattern, tensor, 1234)
    assert found[0].limit == pytest.approx(limit)
    assert pattern in PATTERNS
    assert "1,234" in str(found[0])
    assert pattern not in {f.pattern for f in dog.check(1300, HEALTHY | values, SWITCH)}
    other = make()
    other.load_state(dog.state())
    assert pattern not in {f.pattern for f in other.check(1300, HEALTHY | values, SWITCH)}


def test_the_first_parameter_that_is_not_finite_is_named() -> None:
    tensors = [("policy.weight", torch.zeros(2)), ("critic.weight", torch.tensor([0.0, torch.inf]))]
    [found] = make().check(7, HEALTHY, SWITCH, tensors)
    assert (found.pattern, found.tensor) == ("NaN", "critic.weight")
    assert "not finite" in str(found)


def test_policies_that_were_saturated_before_and_undiscounted_tasks_are_left_alone() -> None:
    assert make().check(1, HEALTHY | {"switch/saturation": 0.99}, SWITCH | {"switch/saturation": 0.8}) == []
    assert make().check(1, HEALTHY | {"switch/offline_q": -50.0}, SWITCH)
    fresh = Watchdog(WatchdogConfig(), discount=0.99, pretrained=False)
    assert fresh.check(1, HEALTHY | {"switch/offline_q": -50.0}, SWITCH) == []
    dog = Watchdog(WatchdogConfig(), discount=1.0)
    dog.see_rewards(torch.ones(1))
    assert dog.check(1, HEALTHY | {"switch/online_q_max": 1e9}, SWITCH) == []


@pytest.mark.parametrize(
    ("pattern", "provoke"),
    [
        ("NaN", lambda agent: agent.policy.mean.weight.data.fill_(torch.nan)),
        ("Q explosion", lambda agent: agent.critic.head.bias.data.fill_(500.0)),
        ("Q collapse", lambda agent: agent.critic.head.bias.data.fill_(-50.0)),
        ("entropy collapse", lambda agent: agent.policy.log_std.bias.data.fill_(-9.0)),
        ("saturated actions", lambda agent: agent.policy.mean.weight.data.mul_(1e4)),
    ],
)
def test_an_agent_that_diverges_is_caught(pattern: str, provoke: Callable[[SAC], object]) -> None:
    agent = SAC(gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,)), SACConfig(hidden=(16,)))
    instruments, dog = SwitchInstruments(random_batch(64)), make()
    instruments.mark(agent, None)

    def check() -> list[str]:
        values = {key: float(value) for key, value in instruments.measure(agent).items()}
        return [f.pattern for f in dog.check(1, values, instruments.at_switch, agent.named_parameters())]

    assert check() == []
    provoke(agent)
    assert check() == [pattern]
