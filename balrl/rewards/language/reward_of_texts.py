"""What scores texts, and reading one from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from balrl.config import FitConfig
from balrl.errors import UserError
from balrl.rewards.language import heads, lora
from balrl.rewards.language.texts import TextPairs


class RewardOfTexts(Protocol):
    """k reward models of texts."""

    @property
    def members(self) -> int:
        """k."""
        ...

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        """Return ``[k, N]``."""
        ...

    def fit(
        self,
        pairs: TextPairs,
        config: FitConfig | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Train on pairs."""
        ...

    def quality(self, pairs: TextPairs) -> dict[str, Any]:
        """Return accuracy and calibration on pairs."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write one file."""
        ...


def load_reward(path: str | Path) -> RewardOfTexts:
    """Return the reward of texts in a file.

    Raises:
        UserError: when the file is missing, or holds none.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no reward of texts at '{path}': no such file")
    try:
        with safe_open(path, "pt") as file:
            names = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is not a safetensors file") from error
    if lora.HEADER in names:
        return lora.LoRAReward.load(path)
    if heads.HEADER not in names and "balrl.rewards" in names:
        raise UserError(f"'{path}' holds a reward of observations and actions, not of texts")
    return heads.HeadsReward.load(path)
