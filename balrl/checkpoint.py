"""One directory holds everything needed to go on: tensors as safetensors, the rest as JSON, nothing pickled."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.errors import UserError

FORMAT = 3
STATE_FILE = "state.json"


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


def save_checkpoint(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint directory: to a temporary name first, then renamed, so that it is whole or absent.

    Args:
        path: of the directory; one that stands there is replaced only when the new one is complete.
        tensors: groups of named tensors; each group becomes ``<group>.safetensors``.
        state: plain JSON types.
    """
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for group, values in tensors.items():
        if values:
            contiguous = {key: value.detach().contiguous() for key, value in values.items()}
            save_file(_unshare(contiguous), temporary / f"{group}.safetensors")
    write_json(temporary / STATE_FILE, {"format": FORMAT, **state})
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


def load_state(path: Path) -> dict[str, Any]:
    """Read the JSON part of a checkpoint.

    Raises:
        UserError: when there is none, or it was written by another format version.
    """
    try:
        state: dict[str, Any] = json.loads((path / STATE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' is no readable checkpoint: {error}") from error
    if state.get("format") != FORMAT:
        raise UserError(f"checkpoint '{path}' has format {state.get('format')}, this balrl reads format {FORMAT}")
    return state


def load_tensors(
    path: Path, group: str, device: torch.device | str = "cpu", required: bool = False
) -> dict[str, Tensor]:
    """Read one group of a checkpoint's tensors; empty if it was empty.

    Raises:
        UserError: when the file is damaged, or is missing and required.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / f"{group}.safetensors"
    if not file.exists() and not required:
        return {}
    try:
        return load_file(file, str(device))
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{file}' is missing or damaged: {error}") from error


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, newest first."""
    found = (p.parent for p in (run_dir / "checkpoints").glob(f"*/{STATE_FILE}") if p.parent.name[0] != ".")
    return sorted(found, reverse=True)


def find_checkpoint(path: Path) -> Path:
    """Return `path` if it is a checkpoint, the newest checkpoint if it is a run."""
    if not path.exists():
        raise UserError(f"'{path}' does not exist; expected a run or checkpoint directory")
    if (path / STATE_FILE).is_file():
        return path
    found = list_checkpoints(path)
    if not found:
        raise UserError(f"'{path}' is neither a balrl run with a checkpoint nor a checkpoint directory")
    return found[0]


def newest_readable(run_dir: Path, notice: Callable[[str], None]) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the newest checkpoint whose files are all readable, and its state; None for both if there is none.

    Args:
        notice: told about each damaged checkpoint that is passed over.
    """
    from safetensors import SafetensorError, safe_open

    for path in list_checkpoints(run_dir):
        try:
            state = load_state(path)
            for name in {"agent.safetensors", "random.safetensors"} | {p.name for p in path.glob("*.safetensors")}:
                with safe_open(path / name, "pt"):
                    pass
        except (UserError, SafetensorError, OSError) as error:
            notice(f"checkpoint {path.name} is damaged ({error}); going on from the one before")
            continue
        return path, state
    return None, None


def prune_checkpoints(run_dir: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and those that end a phase (named ``…-end-…``)."""
    passing = sorted(p for p in (run_dir / "checkpoints").iterdir() if p.name[0] != "." and "-end-" not in p.name)
    for path in passing[:-keep]:
        shutil.rmtree(path)


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
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)


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
