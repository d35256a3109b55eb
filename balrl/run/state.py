"""Where a run stands: the part of its state that is numbers and names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PHASES = ("pretrain", "warmup", "finetune")


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        phase: one of `PHASES`, or ``done``.
        phase_steps: updates (pretrain) or environment steps (warmup, finetune) done in it.
        updates, env_steps: in total.
        warmup_steps: environment steps of the warm-up, ceil(K/N) · N with N worlds.
        pending_updates: the part of an update that the update-to-data ratio still owes.
        metrics: the newest value of each of the agent's metrics in this phase; not all of them come with every update.
        evaluations: every evaluation so far, with its step.
        seconds: wall time per phase, evaluation and checkpoints included.
        findings: every way of diverging that the watchdog saw, with its step, tensor and limit.
        rollbacks: how often the run went back to a checkpoint because of one.
    """

    phase: str = PHASES[0]
    phase_steps: int = 0
    updates: int = 0
    env_steps: int = 0
    warmup_steps: int = 0
    pretrain_updates: int = 0
    pending_updates: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    rollbacks: int = 0

    @property
    def step(self) -> int:
        """The run's one axis: updates of pre-training plus environment steps."""
        return self.pretrain_updates + self.env_steps
