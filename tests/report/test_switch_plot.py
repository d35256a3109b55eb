from __future__ import annotations

from pathlib import Path

from balrl.report.runs import read_runs
from balrl.report.switch_plot import draw_switch
from tests.report.test_runs import write_run


def test_draws_what_there_is(tmp_path: Path) -> None:
    records = [
        {
            "step": 90 + 10 * i,
            "phase": "finetune",
            "switch/offline_q": float(i),
            "switch/online_q": 1.0,
            "eval/score": 2.0,
        }
        for i in range(4)
    ]
    full, bare = write_run(tmp_path / "full", [1.0, 2.0], records), write_run(tmp_path / "bare", [1.0, 2.0])
    runs = dict(zip(("full", "bare"), read_runs([full, bare]), strict=True))
    draw_switch(runs, tmp_path / "switch.png", "a title")
    assert (tmp_path / "switch.png").stat().st_size > 20_000
