"""Metrics to local files always, and to Weights & Biases and TensorBoard where wanted, under the same names."""

from __future__ import annotations

import csv
import json
import math
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from balrl.checkpoint import write_json
from balrl.errors import UserError
from balrl.foreign import fields, parse_json, read_json

INIT_TIMEOUT = 15
LARGEST = 1e300


class Tracker:
    """Appends records to ``metrics.jsonl`` and sends them to W&B.

    A record is one JSON object with ``step`` (updates of pre-training plus environment steps, never decreasing),
    ``phase`` and the metrics. ``metrics.csv`` holds the same records as a table, rewritten at every checkpoint.

    Args:
        run_dir: an existing directory.
        config: stored with the W&B run.
        wandb: auto, online, offline or off; auto means online when a key is configured, else offline. A failure to get
            online is reported once and the run goes on offline.
        offset: bytes of ``metrics.jsonl`` to keep when a run is resumed; what lies beyond was written after the
            checkpoint (or by a run that left no checkpoint) and is moved to ``metrics.discarded.jsonl``.
    """

    open_runs: ClassVar[int] = 0
    """W&B runs of this process that are not closed."""

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        wandb: str = "off",
        project: str = "balrl",
        offset: int = 0,
        tensorboard: bool = False,
    ) -> None:
        self.path = run_dir / "metrics.jsonl"
        self.notice: str | None = None
        if self.path.exists():
            self._discard_after(offset)
        self._file = self.path.open("a", encoding="utf-8")
        self._run = self._start_wandb(run_dir, config, wandb, project) if wandb != "off" else None
        self._events = _start_tensorboard(run_dir, self.path) if tensorboard else None

    def log(self, step: int, phase: str, metrics: Mapping[str, Any]) -> None:
        """Write one record; values are numbers or one-element tensors."""
        values = {key: _number(value) for key, value in numbers(metrics).items() if value is not None}
        self._file.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
        self._file.flush()
        if self._run is not None:
            self._run.log({"phase": phase, **values}, step=step)
        if self._events is not None:
            for key, value in values.items():
                if value is not None:
                    self._events.add_scalar(key, value, step)

    def offset(self) -> int:
        """Return how many bytes of ``metrics.jsonl`` are written."""
        return self._file.tell()

    def rewind(self, offset: int) -> None:
        """Go back to so many bytes of ``metrics.jsonl``; what lies beyond is moved to ``metrics.discarded.jsonl``."""
        self._file.close()
        self._discard_after(offset)
        self._file = self.path.open("a", encoding="utf-8")

    def write_csv(self) -> None:
        """Write ``metrics.csv`` from the records."""
        records = read_metrics(self.path)
        columns = list(dict.fromkeys(key for record in records for key in record))
        temporary = self.path.with_name(".metrics.csv.writing")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(records)
        os.replace(temporary, self.path.with_name("metrics.csv"))

    def close(self, summary: Mapping[str, Any] | None = None, exit_code: int = 0) -> None:
        """Write the table and end the W&B run."""
        self.write_csv()
        self._file.close()
        if self._events is not None:
            self._events.close()
        if self._run is not None:
            for key, value in (summary or {}).items():
                self._run.summary[key] = value
            self._run.finish(exit_code=exit_code)
            Tracker.open_runs -= 1
            self._run = None

    def _discard_after(self, offset: int) -> None:
        content = self.path.read_bytes()
        if len(content) > offset:
            with self.path.with_name("metrics.discarded.jsonl").open("ab") as discarded:
                discarded.write(content[offset:])
            os.truncate(self.path, offset)

    def _start_wandb(self, run_dir: Path, config: Mapping[str, Any], mode: str, project: str) -> Any:
        import wandb

        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "offline")
        id_file = run_dir / "wandb.json"
        run_id = _stored_id(id_file) or wandb.sdk.lib.runid.generate_id()
        options: dict[str, Any] = {
            "mode": mode,
            "project": project,
            "name": run_dir.name,
            "group": run_dir.resolve().parent.name,
            "reinit": "create_new",  # members of a population log side by side
            "id": run_id,
            "config": dict(config),
            "dir": str(run_dir),
            "resume": "allow" if mode == "online" else None,
        }
        silent = {"silent": True, "init_timeout": INIT_TIMEOUT}
        try:
            run = wandb.init(settings=wandb.Settings(**silent), **options)
        except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            self.notice = f"W&B is not reachable ({str(error).splitlines()[0]}); logging offline"
            if not Tracker.open_runs:  # it would end those of other members too
                wandb.teardown()
            options |= {"mode": "offline", "resume": None}
            run = wandb.init(settings=wandb.Settings(**silent), **options)
        Tracker.open_runs += 1
        write_json(id_file, {"id": run_id, "mode": run.settings.mode, "dir": str(Path(run.dir).parent)})
        return run


def _stored_id(file: Path) -> str | None:
    return str(fields(read_json(file), {"id": str}, f"'{file}'")["id"]) if file.exists() else None


def _start_tensorboard(run_dir: Path, metrics: Path) -> Any:
    """Return a writer of events; what a resumed run will write again is marked as gone."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("TensorBoard is not installed; it comes with: pip install 'balrl[tensorboard]'") from error
    records = read_metrics(metrics)
    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=records[-1]["step"] + 1 if records else None)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``, up to a line that a crash cut short or that is damaged."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = fields(parse_json(line, "a record"), {"step": int, "phase": str}, "a record")
            except UserError:
                break
            if not all(_is_plain(value) for key, value in record.items() if key != "phase"):
                break
            records.append(record)
    return records


def _is_plain(value: Any) -> bool:
    """Whether a value of a record is a number that can be drawn, or none."""
    return value is None or (isinstance(value, int | float) and abs(value) < LARGEST)


def numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics with their one-element tensors as numbers; however many there are, the device is asked once."""
    import torch

    tensors = {key: value for key, value in metrics.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        return dict(metrics)
    values = torch.stack([value.detach().double().reshape(()) for value in tensors.values()]).tolist()
    return {**metrics, **dict(zip(tensors, values, strict=True))}


def _number(value: Any) -> float | int | None:
    number = value if isinstance(value, int) else float(value)
    return number if isinstance(number, int) or math.isfinite(number) else None


def has_wandb_key() -> bool:
    """Return whether a W&B key is configured, in the environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
