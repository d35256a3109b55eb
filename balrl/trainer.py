"""The phases of a run: pretrain → warm-up → fine-tune, as explicit state that can stop and go on anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.checkpoint import (
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
from balrl.display import Display
from balrl.evaluation import Evaluation
from balrl.progress import PHASES, Progress
from balrl.replay import ReplayBuffer, Sampler
from balrl.rollout import Collector, Step
from balrl.tracking import Tracker


class Trainable(Protocol):
    """What the trainer needs of an agent."""

    device: torch.device

    def update(self, batch: Batch) -> dict[str, Tensor]: ...
    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor: ...
    def set_phase(self, phase: Any, length: int | None = None) -> None: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any: ...
    def optimizer_state(self) -> dict[str, Tensor]: ...
    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None: ...
    def progress(self) -> dict[str, Any]: ...
    def load_progress(self, progress: Mapping[str, Any]) -> None: ...


@dataclass
class Parts:
    """What a run is made of; `build` puts it together.

    `offline` serves pre-training, `replay` is filled online, `sampler` is what fine-tuning draws from, and `identity`
    (configuration, spaces, the data's fingerprint) is written into every checkpoint, so that each can be read alone.
    """

    agent: Trainable
    collector: Collector | None
    offline: ReplayBuffer | None
    replay: ReplayBuffer | None
    sampler: Sampler | None
    rewards: RewardTransform
    evaluate: Callable[[], Evaluation]
    display: Display
    identity: dict[str, Any]
    close: Callable[[], None]


class Trainer:
    """Runs the phases of a configuration.

    Args:
        config: of the run.
        parts: agent, collector, replay and evaluation.
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
        self._phase_entered = False
        self._clock = time.perf_counter()

    def run(self) -> bool:
        """Run what is left; return False if a stop was requested, after saving."""
        if not self.progress.evaluations:
            self._evaluate()
        self._clock = time.perf_counter()
        while self.progress.phase != "done":
            phase = self.progress.phase
            if not self._run_phase(phase, self._totals[phase]):
                self.save()
                return False
            self._next_phase()
        return True

    def save(self, name: str | None = None) -> Path:
        """Write a checkpoint, named after the step unless a name is given."""
        p, parts = self.progress, self.parts
        self._tick()
        p.metrics = {key: float(value) for key, value in p.metrics.items() if math.isfinite(value)}
        self.tracker.write_csv()
        collector, replay = parts.collector, parts.replay
        env_state = getattr(collector.env, "state_dict", None) if collector else None
        running = collector is not None and p.phase in ("warmup", "finetune")
        path = save_checkpoint(
            self.run_dir / "checkpoints" / (name or f"{p.step:010d}"),
            {
                "agent": parts.agent.state_dict(),
                "optimizer": parts.agent.optimizer_state(),
                "random": random_state(parts.agent.device),
                "replay": replay.state_dict() if replay is not None and running else {},
                "collector": collector.state_dict() if collector and running else {},
                "environment": env_state() if env_state and running else {},
            },
            {
                **parts.identity,
                "progress": asdict(p),
                "agent": parts.agent.progress(),
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
        exact = True
        replay = load_tensors(path, "replay")
        if replay and parts.replay is not None:
            parts.replay.load_state_dict(replay)
        collector = load_tensors(path, "collector")
        if collector and parts.collector is not None:
            environment = load_tensors(path, "environment")
            if environment:
                parts.collector.env.load_state_dict(environment)  # type: ignore[attr-defined]
                parts.collector.load_state_dict(collector)
            else:
                exact = False
        self._phase_entered = self.progress.phase_steps > 0
        load_random_state(load_tensors(path, "random", required=True), device)
        return exact

    def _run_phase(self, phase: str, total: int) -> bool:
        if total and not self._phase_entered:
            self._enter(phase)
        step = {
            "pretrain": self._pretrain_step,
            "warmup": self._warmup_step,
            "finetune": self._finetune_step,
        }[phase]
        p, c = self.progress, self.config
        eval_every = {"pretrain": c.pretrain.eval_every, "finetune": c.finetune.eval_every}.get(phase)
        while p.phase_steps < total:
            if self.stop_requested:
                return False
            before = p.phase_steps
            p.metrics |= step()
            finished = p.phase_steps >= total
            if _crossed(before, p.phase_steps, c.tracking.log_every) or finished:
                self._log()
            if eval_every and (_crossed(before, p.phase_steps, eval_every) or finished):
                self._evaluate()
            if _crossed(before, p.phase_steps, c.checkpoint.every) and not finished:
                self.save()
            self.parts.display.update(p, total)
        return True

    def _enter(self, phase: str) -> None:
        c, agent = self.config, self.parts.agent
        if phase == "pretrain":
            agent.set_phase("offline", c.pretrain.updates)
        elif phase == "finetune":
            agent.set_phase("online", int(c.finetune.steps * c.finetune.utd_ratio))
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

    def _pretrain_step(self) -> dict[str, Tensor]:
        assert self.parts.offline is not None
        metrics = self.parts.agent.update(self.parts.offline.sample(self.config.batch_size))
        p = self.progress
        p.phase_steps += 1
        p.pretrain_updates += 1
        p.updates += 1
        return metrics

    def _warmup_step(self) -> dict[str, Tensor]:
        policy = self.parts.agent.act if self.config.warmup.policy == "agent" else self._random_actions
        self._collect(policy)
        return {}

    def _finetune_step(self) -> dict[str, Tensor]:
        p, c, sampler = self.progress, self.config, self.parts.sampler
        assert sampler is not None
        assert self.parts.replay is not None
        p.pending_updates += c.finetune.utd_ratio * self._collect(self.parts.agent.act)
        metrics: dict[str, Tensor] = {}
        # Without warm-up or retained data, the first updates wait for one full batch.
        while p.pending_updates >= 1 - 1e-9 and len(sampler) >= c.batch_size and len(self.parts.replay) > 0:
            metrics |= self.parts.agent.update(sampler.sample(c.batch_size))
            p.pending_updates -= 1
            p.updates += 1
        if len(sampler) < c.batch_size:
            p.pending_updates %= 1.0
        return metrics

    def _collect(self, policy: Callable[[Tensor], Tensor]) -> int:
        """Take one vector step into the replay; return the number of transitions stored."""
        parts = self.parts
        assert parts.collector is not None
        assert parts.replay is not None
        step = parts.collector.step(policy)
        rewards = parts.rewards.scale * step.batch.rewards + parts.rewards.bias
        batch = step.batch._replace(rewards=rewards)
        if step.valid is not None:
            batch = batch.rows(step.valid)
        parts.replay.add(batch)
        stored = int(batch.rewards.shape[0])
        self.progress.phase_steps += stored
        self.progress.env_steps += stored
        self._log_episodes(step)
        return stored

    def _random_actions(self, observations: Tensor) -> Tensor:
        assert self.parts.collector is not None
        shape = (observations.shape[0], self.parts.collector.spaces.action_dim)
        return 2 * torch.rand(shape, device=observations.device) - 1

    def _log_episodes(self, step: Step) -> None:
        done = step.done
        if not bool(done.any()):
            return
        metrics = {
            "rollout/return": step.returns[done].mean(),
            "rollout/length": step.lengths[done].double().mean(),
        }
        if step.success is not None:
            metrics["rollout/success"] = step.success[done].double().mean()
        self.tracker.log(self.progress.step, self.progress.phase, metrics)

    def _log(self) -> None:
        p = self.progress
        self._tick()
        times = {"updates": p.updates, "env_steps": p.env_steps, "phase_seconds": p.seconds[p.phase]}
        self.tracker.log(p.step, p.phase, {**p.metrics, **{f"time/{key}": value for key, value in times.items()}})

    def _evaluate(self) -> None:
        p = self.progress
        result = self.parts.evaluate()
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

    def _tick(self) -> None:
        """Add the wall time since the last call to the phase's."""
        now = time.perf_counter()
        seconds = self.progress.seconds
        seconds[self.progress.phase] = seconds.get(self.progress.phase, 0.0) + now - self._clock
        self._clock = now


def _crossed(before: int, after: int, every: int) -> bool:
    return after // every > before // every
