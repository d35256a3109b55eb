from __future__ import annotations

import math

import pytest
import torch

from balrl.config import WatchdogConfig
from balrl.watchdog import ADVICE, Watchdog

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
    assert ADVICE[pattern] in str(found[0])
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
