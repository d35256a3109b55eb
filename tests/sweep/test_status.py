from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from balrl.run.run_lock import RunLock
from balrl.sweep.status import look_at, status_table
from tests.sweep.small import small_sweep


def test_a_sweep_at_a_glance(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", retry=1)
    done, running, waiting, failed, *_ = folder.plan
    assert look_at(folder).line() == "0 of 6 runs are finished, 4 open, 2 waiting"
    for name in (done, running):
        folder.run_dir(name).mkdir(parents=True)
    (folder.run_dir(done) / "summary.json").write_text(
        json.dumps({"finished": True, "wall_seconds": {"a": 60, "b": 40}})
    )
    (folder.run_dir(running) / "metrics.jsonl").write_text('{"step": 3, "phase": "pretrain"}\n{"step": 6, "phase": "pr')
    folder.attempts(running).begin()
    lock = RunLock(folder.run_dir(running))
    folder.attempts(failed).begin()
    folder.attempts(failed).end("failed", "no [room] left")
    status = look_at(folder)
    lock.release()
    assert status.counts == {"finished": 1, "running": 1, "open": 2, "waiting": 1, "set aside": 1}
    assert status.progress == {running: 0.25}
    assert status.left == 100 * (3 + 0.75)
    assert status.line().endswith("1 set aside; about 6 min left")
    screen = io.StringIO()
    Console(file=screen, width=140).print(status_table(folder, status))
    shown = screen.getvalue()
    assert "no [room] left" in shown
    assert "running, 25%" in shown
    assert waiting in shown
    assert (
        done
        not in (
            io.StringIO()
            if Console(file=(few := io.StringIO()), width=140).print(status_table(folder, status, 3))
            else few
        ).getvalue()
    )
