"""k reward models of texts: an ensemble's members on one frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.config import FitConfig
from balrl.errors import UserError
from balrl.foreign import fields, read_tensors
from balrl.rewards.ensemble import RewardEnsemble
from balrl.rewards.ensemble_training import fit_ensemble, quality
from balrl.rewards.language.encoders import Encoder, make_encoder
from balrl.rewards.language.texts import TextPairs
from balrl.rewards.preferences import Preferences

HEADER = "balrl.rewards.language"
SETTINGS = {"encoder": str, "sees_length": bool}


class HeadsReward:
    """``r_i(prompt, completion)``, i = 1 … k: a `RewardEnsemble` on the embeddings of both, side by side.

    Args:
        encoder: frozen, shared by all members.
        members: k.
        hidden: widths of each member's layers.
        seed: of the initialisation.
        sees_length: give members ``log(1 + characters)`` of the completion, too. Without it members on `WordLlama`
            cannot prefer a text for its length.
        shared_trunk: one trunk under k linear heads.
        ensemble: a trained one; None: a new one.
    """

    def __init__(
        self,
        encoder: Encoder,
        members: int = 5,
        hidden: Sequence[int] = (256, 256),
        seed: int = 0,
        sees_length: bool = False,
        shared_trunk: bool = False,
        ensemble: RewardEnsemble | None = None,
    ) -> None:
        self.encoder, self.sees_length = encoder, sees_length
        width = 2 * encoder.width + sees_length
        self.ensemble = ensemble or RewardEnsemble(width, members, hidden, shared_trunk, seed)
        found = self.ensemble.inputs.mean.shape[0]
        if found != width:
            raise UserError(f"the ensemble takes {found} numbers, '{encoder.name}' makes {width} of a text")

    @property
    def members(self) -> int:
        """k."""
        return self.ensemble.members

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        """Return the members' scores ``[k, N]``, each with mean 0 and deviation 1 over the texts it was trained on."""
        found: Tensor = self.ensemble(self.features(prompts, completions).to(self.ensemble.mean.device))
        return found.cpu()

    def features(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        """Return what the members see, ``[N, width]``; a text that is there several times is encoded once."""
        known = list(dict.fromkeys([*prompts, *completions]))
        rows = {text: row for row, text in enumerate(known)}
        embedded = self.encoder(known)
        parts = [embedded[[rows[text] for text in texts]] for texts in (prompts, completions)]
        if self.sees_length:
            parts.append(torch.tensor([[len(text)] for text in completions], dtype=torch.float32).log1p())
        return torch.cat(parts, -1)

    def preferences(self, pairs: TextPairs) -> Preferences:
        """Return pairs as every reward ensemble takes them: segments of one step without actions."""
        sides = [self.features(pairs.prompts, side) for side in (pairs.first, pairs.second)]
        seen = torch.stack(sides, 1).unsqueeze(2)
        return Preferences(seen, seen[..., :0], pairs.labels, notes={"encoder": self.encoder.name})

    def fit(
        self,
        pairs: TextPairs,
        config: FitConfig | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Train on pairs as `fit_ensemble` does, and return what it returns."""
        return fit_ensemble(self.ensemble, self.preferences(pairs), config, on_epoch, seed)

    def quality(self, pairs: TextPairs) -> dict[str, Any]:
        """Return accuracy and calibration on pairs, as `balrl.rewards.quality`."""
        seen = self.preferences(pairs)
        return quality(self.ensemble, seen.inputs, seen.labels)

    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file; the encoder is named in it, not contained."""
        settings = {"encoder": self.encoder.name, "sees_length": self.sees_length}
        return self.ensemble.save(path, {HEADER: json.dumps(settings)})

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder | None = None) -> HeadsReward:
        """Read what `save` has written.

        Args:
            path: of the file.
            encoder: the one that it was trained on; None: made by its name.

        Raises:
            UserError: when the file is missing, is something else, or was trained on another encoder.
        """
        _, header = read_tensors(Path(path), "reward of texts", HEADER)
        settings = fields(header, SETTINGS, f"the header of '{path}'")
        if encoder is not None and encoder.name != settings["encoder"]:
            raise UserError(f"'{path}' was trained on '{settings['encoder']}', not on '{encoder.name}'")
        ensemble = RewardEnsemble.load(path)
        encoder = encoder or make_encoder(settings["encoder"], local=True)
        return cls(encoder, sees_length=settings["sees_length"], ensemble=ensemble)
