"""The checks that a GPU is put to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from balrl.bench import gpu, population, updates
from balrl.bench.gpu import SMALL, page, run_checks, same_step, same_updates
from balrl.errors import UserError
from balrl.execution.updates import EagerUpdates

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled, and there is one kind of update."""
    for module in (gpu, population, updates):
        monkeypatch.setattr(module, "choose_updates", lambda *_, **__: EagerUpdates())
    monkeypatch.setattr(gpu, "KINDS", {"iql": updates.KINDS["iql"]})
    for module in (population, updates):
        monkeypatch.setattr(module, "ROWS", 2_000)


def test_all_checks_are_made_once_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "new" / "results.json"
    found = run_checks(CPU, SMALL, file, said.append)
    assert said == [name for name in found if name != "about"]
    assert json.loads(file.read_text()) == found
    assert not any("failed" in result for result in found.values())
    assert found["updates of iql are the CPU's"]["ok"]
    assert found["a step of balrl/PointMaze-v0 is the CPU's"]["ok"]
    text = page(found)
    assert all(f"| {name} | " in text for name in said)
    assert "2 seeds of iql as one" in text
    kept = {name: found[name] for name in list(found)[:-1]}
    file.write_text(json.dumps(kept))
    (tmp_path / "new" / "learning" / "broken").mkdir(parents=True)
    assert set(run_checks(CPU, SMALL, file, said.append)) == set(found)
    assert said[-1] == said[-2] == list(found)[-1]  # only what was missing was made again


def test_a_check_that_fails_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("no memory\nmore")

    for name in ("same_updates", "update_rates", "bench_population", "learn"):
        monkeypatch.setattr(gpu, name, fails)
    found = run_checks(CPU, SMALL._replace(tasks=1), tmp_path / "r.json", lambda _: None)
    assert found["updates of iql are the CPU's"] == {"failed": "ValueError: no memory"}
    assert found["a step of balrl/PointMaze-v0 is the CPU's"]["ok"]
    assert "**failed**: ValueError: no memory" in page(found)


def test_results_of_another_device_are_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"about": {"device": "H100", "torch": "2.13"}}))
    with pytest.raises(UserError, match=r"H100.*pass another --out"):
        run_checks(CPU, SMALL, tmp_path / "r.json", lambda _: None)


def test_some_checks_can_be_asked_for(tmp_path: Path) -> None:
    found = run_checks(CPU, SMALL, tmp_path / "r.json", lambda _: None, ["step of balrl/Pendulum"])
    assert set(found) == {"about", "a step of balrl/Pendulum-v1 is the CPU's"}
    with pytest.raises(UserError, match=r"holds 'hoper'; there are: updates of iql"):
        run_checks(CPU, SMALL, tmp_path / "r.json", lambda _: None, ["hoper"])


def test_updates_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(EagerUpdates):
        def run(self, update, name, count=1):  # type: ignore[no-untyped-def]
            return super().run(update, name, count - 1)

    monkeypatch.setattr(gpu, "choose_updates", lambda *_, **__: Wrong())
    result = same_updates("iql", CPU, 3)
    assert result["cpu"] == 0
    assert result["compiled"] > 0.1
    assert not result["ok"]


def test_a_step_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from balrl.envs import PendulumVectorEnv

    transition, calls = PendulumVectorEnv.transition, []

    def sometimes_wrong(self: Any, states: Any, actions: Any) -> Any:
        calls.append(1)
        return transition(self, states, actions + 0.5 * (len(calls) == 5))  # the device's only step

    monkeypatch.setattr(PendulumVectorEnv, "transition", sometimes_wrong)
    result = same_step("balrl/Pendulum-v1", CPU)
    assert not result["ok"]
    assert result["observations"] > 0.01
