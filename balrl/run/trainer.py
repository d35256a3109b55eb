"""The phases of a run: pretrain → warm-up → fine-tune, as explicit state that can stop and go on anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from balrl.checkpoint import (
    list_checkpoints,
    load_random_state,
    load_state,
    load_tensors,
    prune_checkpoints,
    random_state,
    save_checkpoint,
    write_json,
)
from balrl.config import RunConfig
from balrl.data.prepare import RewardTransform
from balrl.execution.tracing import Metrics
from balrl.run.components import Parts
from balrl.run.schedule import Learning
from balrl.run.state import PHASES, Progress
from balrl.watch.tracking import Tracker

INTERACTION = ("replay", "rollouts", "monitor", "episodes", "collector", "environment")
SPARSER = 10
"""How much rarer measurements become after the dense part."""

Outcome = Literal["finished", "interrupted", "diverged"]


class Trainer:
    """Runs the phases of a configuration.

    Args:
        config: of the run.
        parts: agent, interaction, data and evaluation.
        tracker: gets every record.
        run_dir: where checkpoints go.
    """

    def __init__(self, config: RunConfig, parts: Parts, tracker: Tracker, run_dir: Path) -> None:
        self.config, self.parts, self.tracker, self.run_dir = config, parts, tracker, run_dir
        self.progress = Progress()
        self.stop_requested = False
        self._totals = dict(
            zip(PHASES, (config.pretrain.updates, config.warmup.steps, config.finetune.steps), strict=True)
        )
        self._steps = {
            "pretrain": self._pretrain_step,
            "warmup": self._warmup_step,
            "finetune": self._finetune_step,
        }
        self._learning = Learning(config, parts)
        self._phase_entered = False
        self._clock = time.perf_counter()

    def run(self) -> Outcome:
        """Run what is left, and return how that ended: an interrupted run is saved, a diverged one is not."""
        self._clock = time.perf_counter()
        if not self.progress.evaluations:
            self._evaluate()
        if self.config.watchdog.on_divergence == "rollback" and not list_checkpoints(self.run_dir):
            self.save()
        while self.progress.phase != "done":
            outcome = self._run_phase(self.progress.phase)
            if outcome == "interrupted":
                self.save()
            if outcome == "finished":
                self._next_phase()
            elif outcome == "interrupted" or not self._roll_back():
                return outcome
        return "finished"

    def save(self, name: str | None = None) -> Path:
        """Write a checkpoint, named after the step unless a name is given."""
        p, parts = self.progress, self.parts
        self._tick()
        p.metrics = {key: float(value) for key, value in p.metrics.items() if math.isfinite(value)}
        self.tracker.write_csv()
        online = parts.interaction is not None and p.phase in ("warmup", "finetune")
        path = save_checkpoint(
            self.run_dir / "checkpoints" / (name or f"{p.step:010d}"),
            {
                "agent": parts.agent.state_dict(),
                "optimizer": parts.agent.optimizer_state(),
                "random": random_state(parts.agent.device),
                "instruments": parts.instruments.state_dict(),
                "reward": parts.reward.state_dict() if parts.reward is not None else {},
                **(parts.interaction.state_dict() if parts.interaction is not None and online else {}),
            },
            {
                **parts.identity,
                "progress": asdict(p),
                "agent": parts.agent.progress(),
                "watchdog": parts.watchdog.state(),
                "metrics_offset": self.tracker.offset(),
            },
        )
        prune_checkpoints(self.run_dir, self.config.checkpoint.keep)
        return path

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; return whether it continues exactly (False: running episodes were restarted)."""
        parts, device = self.parts, self.parts.agent.device
        state = load_state(path)
        self.progress = Progress(**state["progress"])
        parts.agent.load_state_dict(load_tensors(path, "agent", device, required=True))
        parts.agent.load_optimizer_state(load_tensors(path, "optimizer", device))
        parts.agent.load_progress(state["agent"])
        parts.instruments.load_state_dict(load_tensors(path, "instruments", device))
        parts.watchdog.load_state(state["watchdog"])
        if parts.reward is not None:
            rounds = parts.reward.rounds
            parts.reward.load_state_dict(load_tensors(path, "reward", device, required=True))
            if (rounds or parts.reward.rounds) and parts.offline is not None:
                parts.reward.relabel(parts.offline, RewardTransform(**parts.identity["rewards"]))
        exact = True
        if parts.interaction is not None:
            exact = parts.interaction.load_state_dict({group: load_tensors(path, group) for group in INTERACTION})
        self._phase_entered = self.progress.phase_steps > 0
        load_random_state(load_tensors(path, "random", required=True), device)
        return exact

    def _run_phase(self, phase: str) -> Outcome:
        total = self._totals[phase]
        if total and not self._phase_entered:
            self._enter(phase)
        p, c = self.progress, self.config
        eval_every = {"pretrain": c.pretrain.eval_every, "finetune": c.finetune.eval_every}.get(phase)
        while p.phase_steps < total:
            if self.stop_requested:
                return "interrupted"
            before = p.phase_steps
            p.metrics |= self._steps[phase]()
            finished = p.phase_steps >= total
            saves = _crossed(before, p.phase_steps, c.checkpoint.every) or finished
            if _crossed(before, p.phase_steps, c.tracking.log_every) or finished:
                self._log()
            if (_crossed(before, p.phase_steps, self._measure_every(phase)) or saves) and not self._is_healthy():
                return "diverged"
            if eval_every and (_crossed(before, p.phase_steps, eval_every) or finished):
                self._evaluate()
            if saves and not finished:
                self.save()
            self.parts.display.update(p, total)
        return "finished"

    def _enter(self, phase: str) -> None:
        c, parts = self.config, self.parts
        if phase == "pretrain":
            parts.agent.set_phase("offline", c.pretrain.updates)
        else:
            parts.agent.set_phase("online", int(c.finetune.steps * c.finetune.utd_ratio))
            if parts.instruments.probe is not None:
                parts.instruments.mark(parts.agent, None)
        self._phase_entered = True

    def _next_phase(self) -> None:
        p = self.progress
        ended, worked = p.phase, p.phase_steps > 0
        self._tick()
        p.phase = (*PHASES, "done")[PHASES.index(ended) + 1]
        p.phase_steps, p.metrics = 0, {}
        self._phase_entered = False
        if worked:
            self.save(f"{p.step:010d}-end-{ended}")

    def _pretrain_step(self) -> Metrics:
        p, c = self.progress, self.config
        events = (c.tracking.log_every, c.pretrain.eval_every, c.checkpoint.every)
        left = (c.pretrain.updates - p.phase_steps, *(e - p.phase_steps % e for e in events))
        return self._learning.pretrain(p, min(self.parts.updates.block, *left))

    def _warmup_step(self) -> Metrics:
        c, parts = self.config, self.parts
        assert parts.interaction is not None
        if c.warmup.kind == "offline-data":
            assert parts.offline is not None
            parts.interaction.replay.add(parts.offline.subsample(c.warmup.steps, parts.agent.stream))
            self.progress.phase_steps = c.warmup.steps
            return {}
        made = self._interact(parts.interaction.random_actions if c.warmup.kind == "random" else parts.agent.explore)
        if parts.interaction.rollouts is not None:
            parts.interaction.rollouts.clear()  # not the present policy's, or not to be learned from yet
        return self._learning.follow(self.progress, made, critic_only=True) if c.warmup.kind == "critic-only" else {}

    def _finetune_step(self) -> Metrics:
        return self._learning.follow(self.progress, self._interact(self.parts.agent.explore))

    def _interact(self, policy: Callable[[Tensor], Tensor]) -> int:
        """Take one vector step; return the number of transitions that it made."""
        assert self.parts.interaction is not None
        made = self.parts.interaction.step(policy)
        p = self.progress
        p.phase_steps += made
        p.env_steps += made
        p.warmup_steps += made if p.phase == "warmup" else 0
        learned = self._learning.new_preferences(p, made)
        if learned:
            self.tracker.log(p.step, p.phase, learned)
        return made

    def _measure_every(self, phase: str) -> int:
        if phase == "pretrain":
            return self.config.tracking.log_every
        c = self.config.instruments
        return c.every if self.progress.env_steps <= c.dense_steps else SPARSER * c.every

    def _is_healthy(self) -> bool:
        """Measure, log, and return False if the run should not go on like this."""
        p, parts, online = self.progress, self.parts, self.progress.phase != "pretrain"
        newest = parts.interaction.newest(self.config.instruments.rows) if parts.interaction and online else None
        if newest is not None:
            parts.watchdog.see_rewards(newest.rewards)
        measured = {key: float(value) for key, value in parts.instruments.measure(parts.agent, newest).items()}
        if measured:
            self.tracker.log(p.step, p.phase, measured)
        values = {key: float(value) for key, value in p.metrics.items()} | measured
        found = parts.watchdog.check(
            p.step, values, parts.instruments.at_switch, ((k, v.detach()) for k, v in parts.agent.named_parameters())
        )
        for finding in found:
            p.findings.append(asdict(finding))
            parts.display.notice(str(finding))
        return not found or self.config.watchdog.on_divergence == "warn"

    def _roll_back(self) -> bool:
        """Go back to the newest checkpoint from before anything was found; return False if the run is to stop."""
        p, c, display = self.progress, self.config, self.parts.display
        saved = ((path, load_state(path)) for path in list_checkpoints(self.run_dir))
        good, state = next(((path, s) for path, s in saved if not s["watchdog"]["reported"]), (None, {}))
        if c.watchdog.on_divergence == "stop" or p.rollbacks >= c.watchdog.max_rollbacks or good is None:
            display.notice(f"stopped; last good checkpoint: {good or 'none was saved before'}")
            return False
        findings, rollbacks, came_from = p.findings, p.rollbacks + 1, p.step
        exact = self.load(good)
        self.progress.findings, self.progress.rollbacks = findings, rollbacks
        self.tracker.rewind(state["metrics_offset"])
        new_seed = c.seed + 1_000_003 * rollbacks
        torch.manual_seed(new_seed)
        self.parts.agent.stream.reseed(new_seed)
        display.notice(
            f"rolled back from step {came_from:,} to {self.progress.step:,} with new random numbers "
            f"({rollbacks} of at most {c.watchdog.max_rollbacks})" + ("" if exact else "; running episodes restart")
        )
        write_json(self.run_dir / "evaluations.json", self.progress.evaluations)
        return True

    def _log(self) -> None:
        p = self.progress
        self._tick()
        times = {"updates": p.updates, "env_steps": p.env_steps, "phase_seconds": p.seconds[p.phase]}
        happened = self.parts.interaction.pop_happened() if self.parts.interaction is not None else {}
        self.tracker.log(p.step, p.phase, p.metrics | {f"time/{key}": value for key, value in times.items()} | happened)

    def _evaluate(self) -> None:
        p = self.progress
        self._tick()
        result = self.parts.evaluate()
        self._tick("evaluation")
        record = {
            "step": p.step,
            "phase": p.phase,
            "updates": p.updates,
            "env_steps": p.env_steps,
            **result.to_json(),
        }
        p.evaluations.append(record)
        write_json(self.run_dir / "evaluations.json", p.evaluations)
        names = ("score", "normalized_score", "return_mean", "return_std", "length_mean", "success_rate")
        self.tracker.log(p.step, p.phase, {f"eval/{name}": record[name] for name in names})
        self.parts.display.evaluated(record)

    def _tick(self, spent_on: str | None = None) -> None:
        """Add the wall time since the last call to the phase's, or to what it was spent on."""
        now = time.perf_counter()
        seconds, key = self.progress.seconds, spent_on or self.progress.phase
        seconds[key] = seconds.get(key, 0.0) + now - self._clock
        self._clock = now


def _crossed(before: int, after: int, every: int) -> bool:
    return after // every > before // every
