"""k reward models as one batched computation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from balrl.checkpoint import load_into
from balrl.conservative_objectives import check_members
from balrl.errors import UserError, check_target
from balrl.foreign import expect, fields, read_tensors
from balrl.networks import MLP, Normalizer, ScalarHead

FORMAT = 1
SETTINGS = {
    "format": int, "input_dim": int, "members": int, "hidden": list, "shared_trunk": bool, "seed": int, "first": int,
}  # fmt: skip
"""What a file's header says."""


class RewardEnsemble(nn.Module):
    """``r_i(x)``, i = 1 … k: inputs ``[…, input_dim]`` give scores ``[k, …]``.

    Members share nothing but the inputs' normalisation (unless the trunk is shared): member i is initialised from
    (seed, i) alone, so that it is the same in every ensemble that has it. Scores are ``(raw_i − mean_i) / std_i`` with
    a fixed mean and deviation per member, which `normalize` measures over a reference set.

    Args:
        input_dim: observations, actions and what else is given side by side.
        members: k.
        hidden: widths of each member's layers.
        shared_trunk: one trunk under k linear heads: cheaper, with less disagreement.
        seed: of the initialisation.
        first: index of the first member; members ``first … first + k − 1`` are made.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        input_dim: int,
        members: int = 5,
        hidden: Sequence[int] = (256, 256),
        shared_trunk: bool = False,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        super().__init__()
        if members < 1:
            raise UserError(f"a reward ensemble of {members} members, expected at least 1")
        self.settings: dict[str, Any] = {
            "input_dim": input_dim,
            "members": members,
            "hidden": list(hidden),
            "shared_trunk": shared_trunk,
            "seed": seed,
            "first": first,
        }
        self.members = members
        self.inputs = Normalizer(input_dim)
        self.trunk = MLP(input_dim, hidden, () if shared_trunk else (members,))
        self.head = ScalarHead(self.trunk.output_dim, (members,))
        self.register_buffer("mean", torch.zeros(members))
        self.register_buffer("std", torch.ones(members))
        self._initialise(seed, first)

    def forward(self, x: Tensor) -> Tensor:
        return (self.raw(x) - _column(self.mean, x)) / _column(self.std, x)

    def raw(self, x: Tensor) -> Tensor:
        """Return scores before their normalisation, ``[k, …]``."""
        flat = self.inputs(x.reshape(-1, x.shape[-1]))
        return self.head(self.trunk(flat)).reshape(self.members, *x.shape[:-1])

    @torch.no_grad()
    def normalize(self, reference: Tensor) -> None:
        """Centre and scale every member's scores over reference inputs ``[…, input_dim]``.

        Raises:
            UserError: when a member's scores are not finite.
        """
        raw = self.raw(reference).flatten(1)
        check_members(raw)
        std = raw.std(1, correction=0)
        self.mean.copy_(raw.mean(1))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def member(self, index: int) -> RewardEnsemble:
        """Return one member as an ensemble of its own."""
        if index not in range(self.members):
            raise UserError(f"no member {index} in an ensemble of {self.members}")
        first = self.settings["first"] + index
        made = RewardEnsemble(**{**self.settings, "members": 1, "first": first})
        own = made.state_dict()
        for name, value in self.state_dict().items():
            own[name].copy_(value if value.shape == own[name].shape else value[index : index + 1])
        return made

    def save(self, path: str | Path, notes: Mapping[str, str] | None = None) -> Path:
        """Write one ``.safetensors`` file, the settings as JSON in its header; whole or not at all.

        Args:
            path: of the file.
            notes: further entries of the header, by name.
        """
        from safetensors.torch import save_file

        path = check_target(Path(path), (".safetensors",))
        temporary = path.with_name(f".{path.name}")
        header = json.dumps({"format": FORMAT, **self.settings})
        save_file(
            {k: v.contiguous() for k, v in self.state_dict().items()},
            temporary,
            {**(notes or {}), "balrl.rewards": header},
        )
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> RewardEnsemble:
        """Read what `save` has written.

        Raises:
            UserError: when the file is missing, is something else, or a member's weights are not finite.
        """
        path = Path(path)
        tensors, header = read_tensors(path, "reward ensemble", "balrl.rewards")
        settings = dict(fields(header, SETTINGS, f"the header of '{path}'"))
        if settings.pop("format") != FORMAT:
            raise UserError(f"'{path}' has another format than this balrl's, {FORMAT}")
        settings = {key: settings[key] for key in SETTINGS if key != "format"}
        widths = [expect(width, int, f"the header of '{path}': 'hidden'") for width in settings["hidden"]]
        for index, sizes in enumerate(pairwise((settings["input_dim"], *widths))):
            layer = tensors.get(f"trunk.layers.{index}.weight")
            stacked = () if settings["shared_trunk"] else (settings["members"],)
            if layer is None or sorted(layer.shape) != sorted((*stacked, *sizes)):  # before any memory is taken
                raise UserError(f"the members in '{path}' are not what its header says: {settings}")
        if tensors.get("mean", torch.empty(0)).shape != (settings["members"],):
            raise UserError(f"'{path}' has other members than its header says: {settings['members']}")
        made = cls(**settings)
        load_into(made, tensors, path)
        of_members = ("head.", "mean", "std", *(() if settings["shared_trunk"] else ("trunk.",)))
        for name, value in tensors.items():
            if name.startswith(of_members):
                check_members(value.unsqueeze(-1))
        return made

    @torch.no_grad()
    def _initialise(self, seed: int, first: int) -> None:
        """Draw every member's weights from its own generator."""
        batched = [p for p in self.parameters() if p.shape[:1] == (self.members,)]
        shared = self.settings["shared_trunk"]
        with torch.random.fork_rng(devices=[]):
            for index in range(self.members):
                torch.manual_seed((seed << 20) + first + index)
                if shared:
                    parts = list(ScalarHead(self.trunk.output_dim, (1,)).parameters())
                    owned = list(self.head.parameters())
                else:
                    trunk = MLP(self.inputs.mean.shape[0], self.settings["hidden"], (1,))
                    parts = [*trunk.parameters(), *ScalarHead(trunk.output_dim, (1,)).parameters()]
                    owned = batched
                for parameter, drawn in zip(owned, parts, strict=True):
                    parameter[index].copy_(drawn[0])


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Return ``values [k]`` with one axis for each of x's but the last."""
    return values.reshape(-1, *([1] * (x.dim() - 1)))
