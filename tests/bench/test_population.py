"""What a population costs."""

from __future__ import annotations

import pytest

from balrl.bench import population
from balrl.bench.population import bench_population
from balrl.execution.updates import EagerUpdates


def test_both_ways_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (population, population.Subject.__module__):
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.choose_updates", lambda *_, **__: EagerUpdates())
        monkeypatch.setattr(f"{target}.ROWS", 2_000)
    found = bench_population("iql", 2, "cpu", 1, 0.05)
    rates = {name: rate["median"] for name, rate in found["updates of each member per second"].items()}
    assert found["members"] == 2
    assert found["ratio"] == pytest.approx(rates["population"] / rates["one after another"])
    assert min(rates.values()) > 1
