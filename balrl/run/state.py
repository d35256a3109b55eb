"""Where a run stands: the part of its state that is numbers and names."""

from __future__ import annotations

from dataclasses import dataclass, field, fields as dataclass_fields
from typing import Any

from balrl.errors import UserError
from balrl.foreign import fields

KINDS = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list}
LATER = ("evaluation_due", "selection", "champion", "members", "strategy")
"""Fields that older checkpoints lack."""
EVALUATION = {"step": int, "phase": str, "updates": int, "env_steps": int, "episodes": int, "returns": list}
"""What stands in the record of every evaluation."""
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
        evaluation_due: whether an evaluation was begun and not finished: it comes first when the run goes on.
        rollbacks: how often the run went back to a checkpoint because of one.
        selection: where the choice of a member in the warm-up stands, and what came of it; empty without one.
        members: where the draw of a member for each episode of fine-tuning stands; empty without one.
        champion: who is served, since when, and every change; empty without one.
        strategy: where PEX or JSRL stands, once it has begun; empty without.
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
    evaluation_due: bool = False
    selection: dict[str, Any] = field(default_factory=dict)
    champion: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Any, source: str) -> RunState:
        """Return what a checkpoint says.

        Raises:
            UserError: for a field that is missing, unknown or of another type; `source` is named.
        """
        kinds = {f.name: KINDS[str(f.type).partition("[")[0]] for f in dataclass_fields(cls)}
        found = fields(data, {name: kind for name, kind in kinds.items() if name in data or name not in LATER}, source)
        unknown = sorted(found.keys() - kinds.keys())
        if unknown or found["phase"] not in (*PHASES, "done"):
            what = f"unknown '{unknown[0]}'" if unknown else f"phase {found['phase']!r}"
            raise UserError(f"{source} has {what}: another version of balrl wrote it, or it is damaged")
        for index, record in enumerate(found["evaluations"]):
            fields(record, EVALUATION, f"{source}, evaluation {index}")
        return cls(**found)

    @property
    def step(self) -> int:
        """The run's one axis: updates of pre-training plus environment steps."""
        return self.pretrain_updates + self.env_steps
