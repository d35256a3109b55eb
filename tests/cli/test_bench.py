"""`balrl bench`."""

from __future__ import annotations

import pytest

from balrl.cli.main import main
from balrl.execution.updates import EagerUpdates


def test_updates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("balrl.bench.updates.choose_updates", lambda *_, **__: EagerUpdates())
    assert main(["bench", "update", "iql", "--seconds", "0.05", "--rounds", "1"]) == 0
    assert "iql" in capsys.readouterr().out
    assert main(["bench", "update", "iqll"]) == 2
    assert "did you mean 'iql'" in capsys.readouterr().err


def test_environments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "envs", "balrl/Pendulum-v1", "--num-envs", "4", "--seconds", "0.05"]) == 0
    out = capsys.readouterr().out
    assert "balrl/Pendulum-v1" in out
    assert "Gymnasium, sync" in out
    assert main(["bench", "envs", "Pendulam-v1"]) == 2
    assert "did you mean 'Pendulum-v1'" in capsys.readouterr().err
    assert main(["bench", "envs", "balrl/Pendulam-v1"]) == 2
    assert "balrl/Pendulum-v1" in capsys.readouterr().err
