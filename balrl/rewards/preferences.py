"""Preferences: pairs of trajectory segments, and which of the two is preferred."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.errors import UserError, check_target
from balrl.foreign import expect, fields, read_tensors

FORMAT = 1


@dataclass(frozen=True)
class Preferences:
    """P pairs of segments of H steps; single samples have H = 1.

    Attributes:
        observations: ``[P, 2, H, observation_dim]`` float32.
        actions: ``[P, 2, H, action_dim]`` float32, in [-1, 1].
        labels: ``[P]`` float32: the probability that the second segment is preferred; 1, 0, and ½ where both are equal;
            NaN where nobody has been asked yet.
        env_id: the task that they are of, if known.
        notes: where segments and labels come from, plain JSON types.

    Raises:
        UserError: when the shapes disagree or a label is no probability.
    """

    observations: Tensor
    actions: Tensor
    labels: Tensor
    env_id: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("observations", "actions"):
            shape = tuple(getattr(self, name).shape)
            wanted = (len(self.labels), 2, *self.observations.shape[2:3])
            if len(shape) != 4 or shape[:3] != wanted:
                raise UserError(
                    f"preferences: {name} has shape {shape}, expected [pairs, 2, steps, width] with {wanted}"
                )
        if self.labels.dim() != 1 or bool(((self.labels < 0) | (self.labels > 1)).any()):
            raise UserError("preferences: labels must be probabilities, one per pair")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def steps(self) -> int:
        """H, of every segment."""
        return self.observations.shape[2]

    @property
    def digest(self) -> str:
        """Tells whether two hold the same pairs, whatever their labels."""
        digest = hashlib.blake2b(digest_size=8)
        for values in (self.observations, self.actions):
            digest.update(values.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check_labelled(self) -> None:
        """Raise a `UserError` where pairs have no label yet."""
        missing = int(self.labels.isnan().sum())
        if missing:
            raise UserError(
                f"{missing:,} of {len(self):,} pairs have no label yet: film them with 'balrl reward film', label "
                "them, and write the labels with 'balrl reward label'"
            )

    @property
    def inputs(self) -> Tensor:
        """What a reward model sees, ``[P, 2, H, observation_dim + action_dim]``."""
        return torch.cat([self.observations, self.actions], -1)

    def take(self, rows: Tensor) -> Preferences:
        """Return the pairs at `rows` (indices or a mask)."""
        kept = (self.observations[rows], self.actions[rows], self.labels[rows])
        return replace(self, observations=kept[0], actions=kept[1], labels=kept[2])

    def join(self, other: Preferences) -> Preferences:
        """Return these pairs followed by others of the same shape."""
        return replace(
            self,
            observations=torch.cat([self.observations, other.observations]),
            actions=torch.cat([self.actions, other.actions]),
            labels=torch.cat([self.labels, other.labels]),
        )

    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file, the rest as JSON in its header; whole or not at all."""
        from safetensors.torch import save_file

        path = check_target(Path(path), (".safetensors",))
        header = json.dumps({"format": FORMAT, "env_id": self.env_id, "notes": self.notes})
        tensors = {name: getattr(self, name).contiguous() for name in ("observations", "actions", "labels")}
        temporary = path.with_name(f".{path.name}")
        save_file(tensors, temporary, {"balrl.preferences": header})
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path, env_id: str | None = None) -> Preferences:
        """Read what `save` has written.

        Args:
            path: of the file.
            env_id: the task that they must be of, if any.

        Raises:
            UserError: when the file is missing, is something else, or holds preferences of another task.
        """
        path = Path(path)
        tensors, header = read_tensors(path, "preferences", "balrl.preferences")
        source = f"the header of '{path}'"
        meta = fields(header, {"format": int, "notes": dict}, source)
        if meta["format"] != FORMAT:
            raise UserError(f"'{path}' has format {meta['format']}, this balrl reads {FORMAT}")
        task = meta.get("env_id")
        if task is not None:
            expect(task, str, f"{source}: 'env_id'")
        if env_id is not None and task not in (None, env_id):
            raise UserError(f"'{path}' holds preferences of {task}, expected {env_id}")
        names = {"observations", "actions", "labels"}
        if set(tensors) != names or not all(x.is_floating_point() for x in tensors.values()):
            kinds = {name: str(x.dtype).removeprefix("torch.") for name, x in sorted(tensors.items())}
            raise UserError(f"'{path}' holds {kinds}, expected {sorted(names)} of floating-point numbers")
        return cls(**tensors, env_id=task, notes=meta["notes"])
