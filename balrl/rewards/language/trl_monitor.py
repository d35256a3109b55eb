"""Watching a TRL trainer for over-optimisation; needs transformers when it is imported."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from balrl.errors import UserError
from balrl.rewards.language.encoders import NEEDS

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise UserError(NEEDS) from error

LOG = logging.getLogger("balrl.rewards.language")
WATCHED = ("proxy", "gold", "correlation", "gap", "disagreement")


class OveroptimizationMonitor(TrainerCallback):
    """Keeps what `ConservativeReward` logs beside the trainer's KL, and says when a learned reward is being fooled.

    A row at each of the trainer's logs, also added to its ``log_history``: ``balrl/proxy``, ``disagreement`` (the
    members' deviation) and, where the reward has a gold, ``gold``, ``correlation`` and ``gap`` (by how many deviations
    the proxy has risen above the gold); ``kl``, and ``balrl/kl_acceleration``, its second difference over the last
    three logs: a policy that runs away from what it began as moves faster and faster.

    After ``resume_from_checkpoint`` it begins anew, and so do what it compares with.

    Args:
        disagreement: warn when it has grown by this factor.
        gap: warn when it is larger than this.
        stops: stop the training at the first warning.
        name: of the `ConservativeReward` that is watched.
    """

    def __init__(self, disagreement: float = 2.0, gap: float = 2.0, stops: bool = False, name: str = "balrl") -> None:
        self.disagreement, self.gap, self.stops, self.name = disagreement, gap, stops, name
        self.rows: list[dict[str, float]] = []
        """What was seen, a row per log."""
        self.warnings: list[str] = []
        """What was said, in order, each once."""
        self._kl: deque[float] = deque(maxlen=3)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add a row, and warn."""
        logs = logs or {}
        seen = {f"balrl/{key}": float(logs[name]) for key in WATCHED if (name := f"{self.name}/{key}") in logs}
        if "balrl/disagreement" not in seen:
            return
        row = {"step": float(state.global_step), **seen}
        if logs.get("kl") is not None:
            row["kl"] = float(logs["kl"])
            self._kl.append(row["kl"])
            if len(self._kl) == 3:
                first, second, third = self._kl
                row["balrl/kl_acceleration"] = third - 2 * second + first
        self.rows.append(row)
        if state.log_history:
            state.log_history[-1].update({k: v for k, v in row.items() if k.startswith("balrl/")})
        started = self.rows[0]["balrl/disagreement"]
        if row["balrl/disagreement"] > self.disagreement * started > 0:
            self._warn("disagreement", f"the members disagree {row['balrl/disagreement'] / started:.1f} times as much "
                       f"as at first: the texts are no longer those they were trained on", row, control)  # fmt: skip
        if row.get("balrl/gap", 0.0) > self.gap:
            self._warn("gap", f"the learned reward has risen by {row['balrl/gap']:.1f} deviations more than the true "
                       "one: it is being over-optimised", row, control)  # fmt: skip

    def _warn(self, what: str, words: str, row: dict[str, float], control: Any) -> None:
        if any(said.startswith(what) for said in self.warnings):
            return
        self.warnings.append(f"{what}: step {row['step']:.0f}: {words}")
        LOG.warning("step %.0f: %s", row["step"], words)
        if self.stops:
            control.should_training_stop = True
