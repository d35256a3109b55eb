from __future__ import annotations

from pathlib import Path

import pytest

from balrl.sweep.folder import FILE
from balrl.sweep.remote import Report, carry_out, order_of
from tests.sweep.small import small_sweep

ALONE = {"seeds": [0], "presets": {"IQL": {"preset": "iql/point-maze"}}}


def test_an_order_is_carried_out_once(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    order = order_of(folder, folder.plan)
    assert carry_out(order) == Report("finished")
    assert carry_out(order) == Report("skipped")
    [log] = (folder.path / "logs").iterdir()
    assert "finetune" in log.read_text()


@pytest.mark.parametrize("what", ["version", "folder", "module", "full disk"])
def test_a_machine_that_cannot_do_it_says_so_in_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    order = order_of(folder, folder.plan)
    message = {
        "version": "was begun with balrl 9.0.1.0, this is balrl 0.1.0",
        "folder": "is no sweep",
        "module": "--import my_task: it cannot be imported",
        "full disk": "cannot read or write: [Errno 28] No space left on device",
    }[what]
    if what == "version":
        file = folder.path / FILE
        file.write_text(file.read_text().replace("balrl: ", "balrl: 9.", 1))
    elif what == "folder":
        order = order._replace(folder=str(tmp_path / "elsewhere"))
    elif what == "module":
        order = order._replace(imports=("my_task",))
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("balrl.sweep.attempts.Attempts.begin", full)
    report = carry_out(order)
    assert report.outcome == "refused"
    assert report.error.startswith("on ")
    assert message in report.error
    assert "\n" not in report.error


def test_what_starts_from_an_unfinished_run_is_not_begun(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", seeds=[0])
    parent, child, *_ = folder.plan
    assert folder.plan[child].parent == parent
    assert carry_out(order_of(folder, [child])) == Report("skipped")
    assert carry_out(order_of(folder, [parent])) == Report("finished")
    assert carry_out(order_of(folder, [child])) == Report("finished")
