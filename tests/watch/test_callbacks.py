from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import balrl
from balrl.errors import UserError
from balrl.watch.callbacks import Callback, Status, check_callbacks
from tests.run.small import final_state, maze_config, records


class Remembering(Callback):
    """Remembers what it was told, and stops the run at an event."""

    def __init__(self, stop: str | None = None, step: int = 0) -> None:
        self.heard: list[tuple[str, Status, Any]] = []
        self.stop, self.step = stop, step

    def _hear(self, event: str, status: Status, detail: Any = None) -> bool | None:
        self.heard.append((event, status, detail))
        return False if event == self.stop and status.step >= self.step else None

    def on_phase(self, status: Status) -> bool | None:
        return self._hear("phase", status)

    def on_step(self, status: Status) -> bool | None:
        return self._hear("step", status)

    def on_log(self, status: Status, metrics: Mapping[str, float]) -> bool | None:
        return self._hear("log", status, metrics)

    def on_evaluation(self, status: Status, evaluation: Mapping[str, Any]) -> bool | None:
        return self._hear("evaluation", status, evaluation)

    def on_checkpoint(self, status: Status, path: Path) -> bool | None:
        return self._hear("checkpoint", status, path)


def test_everything_is_told_and_nothing_is_touched(tmp_path: Path, whole_run: Path) -> None:
    callback = Remembering()
    result = balrl.train(maze_config(), tmp_path / "run", callbacks=[callback, Callback])
    assert result.finished
    phases = [status.phase for event, status, _ in callback.heard if event == "phase"]
    assert phases == ["pretrain", "warmup", "finetune", "done"]
    evaluations = [detail["step"] for event, _, detail in callback.heard if event == "evaluation"]
    assert evaluations == [0, 6, 12, 52, 72]
    checkpoints = [detail for event, _, detail in callback.heard if event == "checkpoint"]
    assert all(path.parent == tmp_path / "run" / "checkpoints" for path in checkpoints)
    logged = next(detail for event, _, detail in callback.heard if event == "log")
    assert all(isinstance(value, int | float) for value in logged.values())
    steps = [status.step for event, status, _ in callback.heard if event == "step"]
    assert steps == sorted(steps)
    assert steps[-1] == 72
    status = callback.heard[-1][1]
    assert (status.run_dir, status.env_steps, status.agent.phase) == (tmp_path / "run", 60, "online")
    one, other = final_state(tmp_path / "run"), final_state(whole_run)
    assert all(one[key].equal(other[key]) for key in other)


@pytest.mark.parametrize("event", ["phase", "step", "log", "evaluation", "checkpoint"])
def test_any_of_them_may_stop_the_run_which_goes_on_as_if_it_had_not(
    event: str, tmp_path: Path, whole_run: Path
) -> None:
    stopped = balrl.train(maze_config(), tmp_path / "run", callbacks=[Remembering(event, step=12)])
    assert (stopped.finished, stopped.summary["outcome"]) == (False, "interrupted")
    assert balrl.resume(tmp_path / "run", callbacks=[Remembering()]).finished
    one, other = final_state(tmp_path / "run"), final_state(whole_run)
    assert all(one[key].equal(other[key]) for key in other)
    seconds = "time/phase_seconds"
    assert [{k: v for k, v in r.items() if k != seconds} for r in records(tmp_path / "run")] == records(whole_run)


def test_what_is_no_callback_is_refused() -> None:
    assert [type(c) for c in check_callbacks([Callback, Remembering()])] == [Callback, Remembering]
    with pytest.raises(UserError, match=r"is no callback: expected a balrl\.Callback"):
        check_callbacks([print])
