from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from balrl.watch.tracking import Tracker, numbers, read_metrics


def wandb_records(directory: Path) -> list[Any]:
    """Parse an offline run's file: protobuf records in LevelDB's log format (32 KiB blocks) behind a 7-byte header."""
    from wandb.proto import wandb_internal_pb2

    [file] = directory.glob("*.wandb")
    content, position, found, part = file.read_bytes(), 7, [], b""
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        part += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            found.append(record)
            part = b""
    return found


def test_local_files(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, {})
    tracker.log(1, "pretrain", {"critic/loss": torch.tensor(0.5), "n": 3, "skipped": None})
    tracker.log(2, "finetune", {"eval/score": 7.0, "critic/loss": float("nan")})
    tracker.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1, "phase": "pretrain", "critic/loss": 0.5, "n": 3},
        {"step": 2, "phase": "finetune", "eval/score": 7.0, "critic/loss": None},
    ]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert rows[0] == {"step": "1", "phase": "pretrain", "critic/loss": "0.5", "n": "3", "eval/score": ""}
    assert rows[1]["eval/score"] == "7.0"


def test_records_after_the_checkpoint_are_moved_aside(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, {})
    tracker.log(1, "pretrain", {"a": 1})
    offset = tracker.offset()
    tracker.log(2, "pretrain", {"a": 2})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "cut sho')
    resumed = Tracker(tmp_path, {}, offset=offset)
    resumed.log(2, "pretrain", {"a": 20})
    resumed.close()
    assert [r["a"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 20]
    assert '"a": 2' in (tmp_path / "metrics.discarded.jsonl").read_text()


@pytest.mark.parametrize("mode", ["offline", "auto"])
def test_wandb_offline_holds_the_same_names(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setattr("balrl.watch.tracking.has_wandb_key", lambda: False)
    tracker = Tracker(tmp_path, {"agent": {"name": "iql"}, "seed": 3}, mode, "some-project")
    tracker.log(5, "pretrain", {"critic/loss": torch.tensor(0.25)})
    tracker.log(9, "finetune", {"eval/score": 12.5})
    tracker.close({"final": {"score": 12.5}})
    wandb.teardown()
    info = json.loads((tmp_path / "wandb.json").read_text())
    assert info["mode"] == "offline"
    records = wandb_records(Path(info["dir"]))
    [run] = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (run.project, run.run_id) == ("some-project", info["id"])
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["seed"] == 3
    history = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    assert [(h["_step"], h["phase"]) for h in history] == [(5, "pretrain"), (9, "finetune")]
    assert history[0]["critic/loss"] == 0.25
    assert history[1]["eval/score"] == 12.5


def test_no_network_falls_back_to_offline_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    real, asked = wandb.init, []

    def init(**options: Any) -> Any:
        asked.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("Run initialization has timed out\nlong story")
        return real(**options)

    monkeypatch.setattr(wandb, "init", init)
    tracker = Tracker(tmp_path, {}, "online")
    tracker.log(1, "pretrain", {"a": 1})
    tracker.close()
    wandb.teardown()
    assert asked == ["online", "offline"]
    assert tracker.notice == "W&B is not reachable (Run initialization has timed out); logging offline"
    assert read_metrics(tmp_path / "metrics.jsonl")


def test_a_failure_ends_no_other_member_s_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    real = wandb.init

    def init(**options: Any) -> Any:
        if options["mode"] == "online":
            raise wandb.errors.CommError("timed out")
        return real(**options)

    monkeypatch.setattr(wandb, "init", init)
    trackers = []
    for name, mode in (("a", "offline"), ("b", "online")):
        (tmp_path / name).mkdir()
        trackers.append(Tracker(tmp_path / name, {}, mode))
    for tracker in trackers:
        tracker.log(1, "pretrain", {"loss": 1.0})
        tracker.close({"final": {"score": 1.0}})
    assert Tracker.open_runs == 0
    wandb.teardown()


def test_off_touches_no_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)  # importing it now fails
    tracker = Tracker(tmp_path, {}, "off")
    tracker.log(1, "pretrain", {"a": 1})
    tracker.close()
    assert not (tmp_path / "wandb").exists()


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
    )
    tracker = Tracker(tmp_path, {}, tensorboard=True)
    tracker.log(5, "pretrain", {"critic/loss": 0.5})
    tracker.log(9, "finetune", {"critic/loss": float("nan"), "eval/score": 3})
    tracker.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("critic/loss")] == [(5, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("eval/score")] == [(9, 3.0)]


def test_metrics_become_numbers_in_their_order_and_lose_no_digit() -> None:
    value = torch.tensor(0.1, requires_grad=True)
    found = numbers(
        {"a": value, "b": 3, "c": torch.tensor([2.5], dtype=torch.float64), "d": torch.tensor(7), "e": None}
    )
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert found == {"a": value.item(), "b": 3, "c": 2.5, "d": 7.0, "e": None}
    assert numbers({"x": 1.5}) == {"x": 1.5}
    assert math.isnan(numbers({"x": torch.tensor(math.nan)})["x"])
