from __future__ import annotations

import time
from itertools import pairwise

import pytest

from balrl.bench.updates import BATCH, KINDS, Floor, Subject, bench_updates, per_second
from balrl.execution.updates import EagerUpdates


def products(*widths: int) -> int:
    """Floating-point operations of one forward pass of a network on a batch."""
    return sum(2 * BATCH * a * b for a, b in pairwise(widths))


def test_operations_of_an_update_are_those_of_its_networks() -> None:
    """IQL: forward passes count one; backward passes two, less the gradient of the input, which no one asks for."""
    policy, value, critic = products(17, 256, 256, 6), products(17, 256, 256), products(23, 256, 256)
    trained = 3 * (policy + value + 2 * critic) - products(17, 256) * 2 - 2 * products(23, 256)
    untrained = 2 * critic + 2 * value  # the target critics; V of both observations without gradients
    assert Subject("iql", "off").flops() == trained + untrained
    assert Floor().flops() == 2 * 256**3


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_updates(kind: str) -> None:
    subject = Subject(kind, "off")
    before = subject.agent.policy.mean.weight.clone()
    subject.run(1)
    assert (subject.agent.policy.mean.weight != before).any()


def test_rates_count_what_was_done() -> None:
    calls: list[int] = []
    rate = per_second(calls.append, 0.05)
    assert rate == pytest.approx(sum(calls) / 0.05, rel=0.5)


def test_what_is_slow_is_not_asked_for_at_length() -> None:
    start = time.perf_counter()
    per_second(lambda count: time.sleep(0.05 * count), 0.1)
    assert time.perf_counter() - start < 0.5


def test_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.bench.updates.choose_updates", lambda *_, **__: EagerUpdates())
    [line] = bench_updates(["iql"], seconds=0.05, rounds=1)
    assert line.written > 1
    assert line.low <= line.fastest <= line.high
    assert 0 < line.of_floor < 1
