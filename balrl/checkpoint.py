"""One directory holds everything needed to go on: tensors as safetensors, the rest as JSON, nothing pickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from balrl.errors import UserError
from balrl.foreign import checksum, expect, fields, read_json

FORMAT = 3
Result = TypeVar("Result")
STATE_FILE = "state.json"
AGENT = {"config": dict, "observation_space": dict, "action_space": dict, "rewards": dict, "agent": dict}
"""What stands in the state of every agent's checkpoint."""
RUN = AGENT | {"progress": dict, "watchdog": dict, "metrics_offset": int}
"""And in that of a run's."""


class Carried(NamedTuple):
    """A piece of an agent that another run can take over from a checkpoint.

    Attributes:
        name: of the attribute that holds it, a module or a parameter.
        part: of the agent that it belongs to, as ``init.parts`` chooses them.
        label: what messages call it.
        optional: whether an agent of another kind may do without it; then it is left out, or starts fresh.
        ensemble: whether it has members, of which there may be more than in the checkpoint.
    """

    name: str
    part: Literal["policy", "critic"]
    label: str
    optional: bool = False
    ensemble: bool = False


POLICY = Carried("policy", "policy", "policy")
BALANCE = Carried("balance", "policy", "balance model")
CRITIC = Carried("critic", "critic", "critics", ensemble=True)
TARGET_CRITIC = Carried("target_critic", "critic", "target critics", ensemble=True)
VALUE = Carried("value", "critic", "V", optional=True)
LATER = {"balance.kept": 1.0, "balance.shift": 0.0}
"""Tensors of a family that older checkpoints lack, with what they amount to."""


def save_checkpoint(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint directory: to a temporary name first, then renamed, so that it is whole or absent.

    Args:
        path: of the directory; one that stands there is replaced only when the new one is complete.
        tensors: groups of named tensors; each group becomes ``<group>.safetensors``.
        state: plain JSON types; the names, sizes and checksums of the groups' files are added under ``files``.
    """
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for group, values in tensors.items():
        if values:
            contiguous = {key: value.detach().contiguous() for key, value in values.items()}
            save_file(_unshare(contiguous), temporary / f"{group}.safetensors")
    files = {p.name: {"bytes": p.stat().st_size, "sha256": checksum(p)} for p in sorted(temporary.iterdir())}
    whole = _finite({"format": FORMAT, "files": files, **state})
    write_json(temporary / STATE_FILE, {"digest": _digest(whole), **whole})
    for file in temporary.iterdir():  # on the disk before the rename makes it the newest checkpoint
        with file.open("rb") as written:
            os.fsync(written.fileno())
    if path.exists():
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(temporary, path)
    return path


def load_state(path: Path, kinds: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Read the JSON part of a checkpoint.

    Args:
        path: of the checkpoint.
        kinds: fields that it must have, with their types; `AGENT` for whoever builds the agent.

    Raises:
        UserError: when there is none, it is not what balrl writes, or it was written by another format version.
    """
    file = path / STATE_FILE
    if not file.is_file():
        raise UserError(f"'{path}' is no readable checkpoint: it has no {STATE_FILE}")
    state: dict[str, Any] = read_json(file, dict)
    if state.get("format") != FORMAT:
        raise UserError(f"checkpoint '{path}' has format {state.get('format')}, this balrl reads format {FORMAT}")
    digest = state.pop("digest", None)  # older ones have none
    if digest is not None and digest != _digest(state):
        raise UserError(f"'{file}' is damaged: its contents changed after it was written")
    return fields(state, kinds or {}, f"'{file}'")


def load_tensors(
    path: Path, group: str, device: torch.device | str = "cpu", required: bool = False
) -> dict[str, Tensor]:
    """Read one group of a checkpoint's tensors; empty if it was empty when it was written.

    Raises:
        UserError: when the file is missing or not the one that was written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / f"{group}.safetensors"
    manifest = _manifest(path)
    if manifest is None:
        if not file.exists() and not required:
            return {}
    elif file.name in manifest:
        _check_file(file, manifest[file.name])
    elif not required:
        return {}
    try:
        return load_file(file, str(device))
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{file}' is missing or damaged: {error}") from error


def completed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an agent's tensors with those of `LATER` that an older checkpoint of a family lacks."""
    if "balance.log_std" not in tensors:
        return dict(tensors)
    return {name: torch.tensor(value) for name, value in LATER.items()} | dict(tensors)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
    """Copy a checkpoint's tensors into a module.

    Raises:
        UserError: naming the first that is missing, too much, or of another shape.
    """
    own = module.state_dict()
    for name in (*own, *tensors):
        if name not in tensors or name not in own:
            what = "lacks" if name not in tensors else "has the unknown"
            raise UserError(f"'{checkpoint}' {what} tensor '{name}': it is not of such an agent")
        if own[name].shape != tensors[name].shape:
            found, wanted = tuple(tensors[name].shape), tuple(own[name].shape)
            raise UserError(f"'{checkpoint}': tensor '{name}' has shape {found}, expected {wanted}")
    module.load_state_dict(dict(tensors))


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, newest first."""
    found = (p.parent for p in (run_dir / "checkpoints").glob(f"*/{STATE_FILE}") if p.parent.name[0] != ".")
    return sorted(found, reverse=True)


def find_checkpoint(path: Path) -> Path:
    """Return `path` if it is a checkpoint, the newest checkpoint if it is a run."""
    if not path.exists():
        raise UserError(f"'{path}' does not exist; expected a run or checkpoint directory")
    if is_checkpoint(path):
        return path
    found = list_checkpoints(path)
    if not found:
        raise UserError(f"'{path}' is neither a balrl run with a checkpoint nor a checkpoint directory")
    return found[0]


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint."""
    return (path / STATE_FILE).is_file()


def read_checkpoint(path: Path, read: Callable[[Path], Result]) -> Result:
    """Return what is read from a checkpoint, or from the newest of a run, which may go on and delete it meanwhile.

    Raises:
        UserError: when there is none, or what `read` raises on one that is still there.
    """
    while True:
        checkpoint = find_checkpoint(path)
        try:
            return read(checkpoint)
        except UserError:
            if is_checkpoint(checkpoint):
                raise


def newest_readable(
    run_dir: Path, notice: Callable[[str], None], until: str | None = None
) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the newest checkpoint that is whole, and its state; None for both if the run has none.

    Args:
        run_dir: of the run.
        until: name of the newest that counts.
        notice: told about each damaged checkpoint that is passed over, and about one too old to be checked.

    Raises:
        UserError: when there are checkpoints, and every one is damaged.
    """
    found = [path for path in list_checkpoints(run_dir) if until is None or path.name <= until]
    damaged = None
    for path in found:
        try:
            state = load_state(path)
            _check_whole(path, state, notice)
        except UserError as error:
            notice(f"checkpoint {path.name} is passed over: {error}")
            damaged = error
            continue
        return path, state
    if damaged is not None:
        raise UserError(f"none of the {len(found)} checkpoints in '{run_dir}' is whole; the oldest: {damaged}")
    return None, None


def _check_whole(path: Path, state: Mapping[str, Any], notice: Callable[[str], None]) -> None:
    """Raise a `UserError` unless every file of a checkpoint is the one that was written."""
    from safetensors import SafetensorError, safe_open

    manifest = _manifest(path)
    if manifest is not None:
        for name, entry in manifest.items():
            _check_file(path / name, entry)
        return
    notice(f"checkpoint {path.name} was written by an older balrl and lists no files: what is missing cannot be seen")
    for name in {"agent.safetensors", "random.safetensors"} | {p.name for p in path.glob("*.safetensors")}:
        try:
            with safe_open(path / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"'{path / name}' is missing or damaged: {error}") from error


def _manifest(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint says of its files; None for one from before it did."""
    source = f"'{path / STATE_FILE}'"
    listed = read_json(path / STATE_FILE, dict).get("files")
    if listed is None:
        return None
    for name, entry in expect(listed, dict, f"{source}: 'files'").items():
        fields(entry, {"bytes": int, "sha256": str}, f"{source}: '{name}'")
        if Path(name).name != name:
            raise UserError(f"{source} lists '{name}', expected the name of a file in the same folder")
    return dict(listed)


@lru_cache(maxsize=1024)
def _checksum_of(file: Path, size: int, changed: int) -> str:
    """Return a file's checksum, computed once as long as the file is as it was: it is asked for several times."""
    return checksum(file)


def _check_file(file: Path, entry: Mapping[str, Any]) -> None:
    if not file.is_file():
        raise UserError(f"'{file}' is missing")
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise UserError(f"'{file}' has {size:,} bytes, expected {entry['bytes']:,}")
    if _checksum_of(file, size, file.stat().st_mtime_ns) != entry["sha256"]:
        raise UserError(f"'{file}' is damaged: its contents changed after it was written")


def prune_checkpoints(run_dir: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and those that end a phase (named ``…-end-…``)."""
    for left in (run_dir / "checkpoints").glob(".*"):
        shutil.rmtree(left, ignore_errors=True)  # by one that was killed while it wrote or deleted
    passing = sorted(p for p in (run_dir / "checkpoints").iterdir() if p.name[0] != "." and "-end-" not in p.name)
    for path in passing[:-keep]:
        gone = path.with_name(f".{path.name}.old")  # at once: a reader finds all of it or nothing
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(path, gone)
        shutil.rmtree(gone)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the global random states of torch (CPU and `device`), numpy and Python."""
    np_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    python_state = random.getstate()[1]
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np_state["state"]["key"].astype(np.int64)),
        "numpy_position": torch.tensor(np_state["state"]["pos"]),
        "python": torch.tensor(python_state, dtype=torch.int64),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def load_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["torch"].cpu())
    key = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, int(state["numpy_position"]), 0, 0.0))  # noqa: NPY002
    random.setstate((3, tuple(state["python"].tolist()), None))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def write_json(path: Path, data: Any) -> None:
    """Write JSON to a temporary name and rename it; numbers that JSON lacks (NaN, infinities) become null."""
    write_text(path, json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to a temporary name and rename it, so that it is whole or as it was before."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _digest(state: Any) -> str:
    """Return a hash of what a state says, however it is laid out."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _unshare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one: safetensors stores each on its own."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[key] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result
