"""The phases of a run: pretrain → warm-up → fine-tune, as explicit state that can stop and go on anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from balrl.agent import Metrics
from balrl.checkpoint import (
    RUN,
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
from balrl.errors import EnvironmentFault, UserError, first_line
from balrl.evaluation import EvaluationStopped
from balrl.run.casting import Actor, Casting
from balrl.run.components import Components
from balrl.run.run_lock import RunLock
from balrl.run.schedule import UpdateSchedule
from balrl.run.state import PHASES, RunState
from balrl.saved_agent import champion_state, phase_state, restore_agent
from balrl.watch.advice import advice_for
from balrl.watch.callbacks import Callback, Status
from balrl.watch.tracking import Tracker, numbers

INTERACTION = ("replay", "rollouts", "monitor", "next_actions", "episodes", "collector", "environment")
SPARSER = 10
"""How much rarer measurements become after the dense part."""

Outcome = Literal["finished", "interrupted", "diverged"]


class Trainer:
    """Runs the phases of a configuration.

    Args:
        config: of the run.
        components: agent, interaction, data and evaluation.
        tracker: gets every record.
        run_dir: where checkpoints go.
        callbacks: called beside the display.
        lock: of the directory; given signs of life.
    """

    def __init__(
        self,
        config: RunConfig,
        components: Components,
        tracker: Tracker,
        run_dir: Path,
        callbacks: Sequence[Callback] = (),
        lock: RunLock | None = None,
    ) -> None:
        self.config, self.components, self.tracker, self.run_dir = config, components, tracker, run_dir
        self.callbacks, self.lock = (components.display, *callbacks), lock
        self.state = RunState()
        self._totals = dict(
            zip(PHASES, (config.pretrain.updates, config.warmup.steps, config.finetune.steps), strict=True)
        )
        self._steps = {
            "pretrain": self._pretrain_step,
            "warmup": self._warmup_step,
            "finetune": self._finetune_step,
        }
        self._schedule = UpdateSchedule(config, components)
        self._casting = Casting(config, components)
        self._phase_entered = False
        self._clock = time.perf_counter()

    def run(self) -> Outcome:
        """Run what is left, and return how that ended: an interrupted run is saved, a diverged one is not."""
        self._clock = time.perf_counter()
        try:
            return self._run()
        except EnvironmentFault as error:
            newest = next(iter(list_checkpoints(self.run_dir)), None)
            left = f"the newest checkpoint is {newest}" if newest else "nothing was saved before"
            raise EnvironmentFault(f"stopped at step {self.state.step:,}, {error}; {left}") from error

    def _run(self) -> Outcome:
        if (self.state.evaluation_due or not self.state.evaluations) and not self._evaluate():
            self.save()
            return "interrupted"
        if self.config.watchdog.on_divergence == "rollback" and not list_checkpoints(self.run_dir):
            self.save()
        while self.state.phase != "done":
            outcome = self._run_phase(self.state.phase)
            if outcome == "interrupted":
                self.save()
            if outcome == "finished":
                self._next_phase()
            elif outcome == "interrupted" or not self._roll_back():
                return outcome
        self._tell("on_phase")
        return "finished"

    def save(self, name: str | None = None) -> Path:
        """Write a checkpoint, named after the step unless a name is given."""
        p, run = self.state, self.components
        if run.interaction is not None:
            run.interaction.collector.check()  # what is not finite must not be saved
        self._tick()
        p.metrics = {key: value for key, value in numbers(p.metrics).items() if math.isfinite(value)}
        self._casting.note(p)
        self._check_lock()
        self.tracker.write_csv()
        online = run.interaction is not None and p.phase in ("warmup", "finetune")
        path = save_checkpoint(
            self.run_dir / "checkpoints" / (name or f"{p.step:010d}"),
            {
                "agent": run.agent.state_dict(),
                "optimizer": run.agent.optimizer_state(),
                "random": random_state(run.agent.device),
                "instruments": run.instruments.state_dict(),
                "reward": run.reward.state_dict() if run.reward is not None else {},
                "contenders": self._casting.tensors(),
                **champion_state(run.agent),
                **(run.interaction.state_dict() if run.interaction is not None and online else {}),
            },
            {
                **run.identity,
                "progress": asdict(p),
                "agent": phase_state(run.agent),
                "watchdog": run.watchdog.state(),
                "metrics_offset": self.tracker.offset(),
            },
        )
        prune_checkpoints(self.run_dir, self.config.checkpoint.keep)
        self._tell("on_checkpoint", path)
        return path

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; return whether it continues exactly (False: running episodes were restarted).

        Raises:
            UserError: when the checkpoint is damaged, or of another run.
        """
        stored = load_state(path, RUN)
        self.state = RunState.from_json(stored["progress"], f"'{path}': 'progress'")
        restore_agent(self.components.agent, path, stored)
        self._phase_entered = self.state.phase_steps > 0
        try:
            return self._load_rest(path, stored)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"'{path}' cannot be gone on with, its tensors are another run's: {reason}") from error

    def _load_rest(self, path: Path, stored: Mapping[str, Any]) -> bool:
        run, device = self.components, self.components.agent.device
        run.instruments.load_state_dict(load_tensors(path, "instruments", device))
        run.watchdog.load_state(stored["watchdog"])
        if run.reward is not None:
            rounds = run.reward.rounds
            run.reward.load_state_dict(load_tensors(path, "reward", device, required=True))
            if (rounds or run.reward.rounds) and run.offline is not None:
                run.reward.relabel(run.offline, RewardTransform(**run.identity["rewards"]))
        exact = True
        if run.interaction is not None:
            exact = run.interaction.load_state_dict({group: load_tensors(path, group) for group in INTERACTION})
        self._casting.load(self.state, load_tensors(path, "contenders", device), exact)
        load_random_state(load_tensors(path, "random", required=True), device)
        return exact

    def _run_phase(self, phase: str) -> Outcome:
        total = self._totals[phase]
        if total and not self._phase_entered:
            self._enter(phase)
        if total:
            self._tell("on_phase")
        p, c = self.state, self.config
        eval_every = {"pretrain": c.pretrain.eval_every, "finetune": c.finetune.eval_every}.get(phase)
        while p.phase_steps < total:
            if self.components.stop.requested:
                return "interrupted"
            before = p.phase_steps
            try:
                p.metrics |= self._steps[phase]()
            except EnvironmentFault:
                if self._is_own_fault():
                    return "diverged"
                raise
            finished = p.phase_steps >= total
            saves = _crossed(before, p.phase_steps, c.checkpoint.every) or finished
            if _crossed(before, p.phase_steps, c.tracking.log_every) or finished:
                self._log()
            measures = _crossed(before, p.phase_steps, self._measure_every(phase)) or saves
            if measures and self._has_diverged(self._measure()):
                return "diverged"
            due = eval_every and (_crossed(before, p.phase_steps, eval_every) or finished)
            if due and not self._evaluate():
                return "interrupted"
            if saves and not finished:
                self.save()
            self._tell("on_step")
        if self._casting.conclude_warmup(p) and not self._evaluate():
            return "interrupted"
        return "finished"

    def _enter(self, phase: str) -> None:
        c, run = self.config, self.components
        if phase == "pretrain":
            run.agent.set_phase("offline", c.pretrain.updates)
        else:
            run.agent.set_phase("online", int(c.finetune.steps * c.finetune.utd_ratio))
            if run.instruments.probe is not None:
                run.instruments.mark(run.agent, None)
        self._phase_entered = True

    def _next_phase(self) -> None:
        p = self.state
        ended, worked = p.phase, p.phase_steps > 0
        self._tick()
        p.phase = (*PHASES, "done")[PHASES.index(ended) + 1]
        p.phase_steps, p.metrics = 0, {}
        self._phase_entered = False
        if worked:
            self.save(f"{p.step:010d}-end-{ended}")

    def _pretrain_step(self) -> Metrics:
        p, c = self.state, self.config
        events = (c.tracking.log_every, c.pretrain.eval_every, c.checkpoint.every)
        left = (c.pretrain.updates - p.phase_steps, *(e - p.phase_steps % e for e in events))
        return self._schedule.pretrain(p, min(self.components.updates.block, *left))

    def _warmup_step(self) -> Metrics:
        c, run = self.config, self.components
        assert run.interaction is not None
        if c.warmup.kind == "offline-data":
            assert run.offline is not None
            run.interaction.replay.add(run.offline.subsample(c.warmup.steps, run.agent.stream))
            self.state.phase_steps = c.warmup.steps
            return {}
        made = self._interact(self._casting.warmup())
        if run.interaction.rollouts is not None:
            run.interaction.rollouts.clear()  # not the present policy's, or not to be learned from yet
        return self._schedule.follow(self.state, made, critic_only=True) if c.warmup.kind == "critic-only" else {}

    def _finetune_step(self) -> Metrics:
        p = self.state
        made = self._interact(self._casting.finetune(lambda metrics: self.tracker.log(p.step, p.phase, metrics)))
        return self._schedule.follow(self.state, made)

    def _interact(self, actor: Actor) -> int:
        """Take one vector step; return the number of transitions that it made."""
        assert self.components.interaction is not None
        made = self.components.interaction.step(*actor)
        p = self.state
        p.phase_steps += made
        p.env_steps += made
        p.warmup_steps += made if p.phase == "warmup" else 0
        learned = self._schedule.new_preferences(p, made)
        if learned:
            self.tracker.log(p.step, p.phase, learned)
        return made

    def _measure_every(self, phase: str) -> int:
        if phase == "pretrain":
            return self.config.tracking.log_every
        c = self.config.instruments
        return c.every if self.state.env_steps <= c.dense_steps else SPARSER * c.every

    def _measure(self) -> dict[str, float]:
        """Take the instruments' measurements, log them, and return them with the agent's newest metrics."""
        p, run = self.state, self.components
        newest = None
        if run.interaction is not None and p.phase != "pretrain":
            newest = run.interaction.newest(self.config.instruments.rows)
        if newest is not None:
            run.watchdog.see_rewards(newest.rewards)
        measured = run.instruments.measure(run.agent, newest)
        values = numbers(p.metrics | measured)
        if measured:
            self.tracker.log(p.step, p.phase, {key: values[key] for key in measured})
        return values

    def _has_diverged(self, values: Mapping[str, float]) -> bool:
        """Have the watchdog look at what was measured, note what it finds, and return whether the run may not go on."""
        p, run = self.state, self.components
        parameters = ((name, value.detach()) for name, value in run.agent.named_parameters())
        found = run.watchdog.check(p.step, values, run.instruments.at_switch, parameters)
        for finding in found:
            p.findings.append(asdict(finding))
            run.display.notice(f"{finding}; try: {advice_for(finding.pattern, self.config)}")
        return bool(found) and self.config.watchdog.on_divergence != "warn"

    def _is_own_fault(self) -> bool:
        """Whether a task failed because a policy that is not finite acted in it: that is the watchdog's to say."""
        self._has_diverged(numbers(self.state.metrics))
        return any(not bool(value.isfinite().all()) for value in self.components.agent.parameters())

    def _roll_back(self) -> bool:
        """Go back to the newest checkpoint from before anything was found; return False if the run is to stop."""
        p, c, display = self.state, self.config, self.components.display
        saved = ((path, load_state(path)) for path in list_checkpoints(self.run_dir))
        good, stored = next(((path, s) for path, s in saved if not s["watchdog"]["reported"]), (None, {}))
        if c.watchdog.on_divergence == "stop" or p.rollbacks >= c.watchdog.max_rollbacks or good is None:
            display.notice(f"stopped; last good checkpoint: {good or 'none was saved before'}")
            return False
        findings, rollbacks, came_from = p.findings, p.rollbacks + 1, p.step
        exact = self.load(good)
        self.state.findings, self.state.rollbacks = findings, rollbacks
        self.tracker.rewind(stored["metrics_offset"])
        new_seed = c.seed + 1_000_003 * rollbacks
        torch.manual_seed(new_seed)
        self.components.agent.stream.reseed(new_seed)
        display.notice(
            f"rolled back from step {came_from:,} to {self.state.step:,} with new random numbers "
            f"({rollbacks} of at most {c.watchdog.max_rollbacks})" + ("" if exact else "; running episodes restart")
        )
        write_json(self.run_dir / "evaluations.json", self.state.evaluations)
        return True

    def _log(self) -> None:
        p = self.state
        self._tick()
        times = {"updates": p.updates, "env_steps": p.env_steps, "phase_seconds": p.seconds[p.phase]}
        happened = self.components.interaction.pop_happened() if self.components.interaction is not None else {}
        record = numbers(p.metrics | {f"time/{key}": value for key, value in times.items()} | happened)
        self._check_lock()
        self.tracker.log(p.step, p.phase, record)
        self._tell("on_log", record)

    def _evaluate(self) -> bool:
        """Evaluate the policy; return False if the run is to stop before that is done, and is due again."""
        p = self.state
        self._tick()
        p.evaluation_due = True
        try:
            result = self.components.evaluate(False)
            learner = self.components.evaluate(True) if self.components.agent.champion is not None else None
        except EvaluationStopped:
            return False
        p.evaluation_due = False
        self._tick("evaluation")
        self._check_lock()
        record = {
            "step": p.step,
            "phase": p.phase,
            "updates": p.updates,
            "env_steps": p.env_steps,
            **result.to_json(),
        }
        shown = ("score", "normalized_score", "return_mean", "success_rate")
        if learner is not None:
            record["learner"] = {name: learner.to_json()[name] for name in shown}
        p.evaluations.append(record)
        write_json(self.run_dir / "evaluations.json", p.evaluations)
        names = ("score", "normalized_score", "return_mean", "return_std", "length_mean", "success_rate")
        of_several = ("expected_utility", "best_utility", "sparsity", "hypervolume")
        logged = {f"eval/{name}": record[name] for name in (*names, *(n for n in of_several if n in record))}
        if learner is not None:
            logged |= {f"eval/learner_{name}": record["learner"][name] for name in shown}
        self.tracker.log(p.step, p.phase, logged)
        self._tell("on_evaluation", record)
        return True

    def _check_lock(self) -> None:
        """Make sure that the directory is still this run's before something is written to it."""
        if self.lock is not None:
            self.lock.check()

    def _tell(self, event: str, *details: Any) -> None:
        """Call a method of every callback; one that returns False stops the run."""
        p, run = self.state, self.components
        total = self._totals.get(p.phase, 0)
        status = Status(self.run_dir, run.agent, p.phase, p.phase_steps, total, p.step, p.updates, p.env_steps)
        for callback in self.callbacks:
            if getattr(callback, event)(status, *details) is False:
                run.stop.requested = True

    def _tick(self, spent_on: str | None = None) -> None:
        """Add the wall time since the last call to the phase's, or to what it was spent on."""
        now = time.perf_counter()
        seconds, key = self.state.seconds, spent_on or self.state.phase
        seconds[key] = seconds.get(key, 0.0) + now - self._clock
        self._clock = now


def _crossed(before: int, after: int, every: int) -> bool:
    return after // every > before // every
