"""What users call: `train`, `resume`, `evaluate`, `load_agent`. Exposed lazily as ``balrl.<name>``."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from balrl.build import (
    make_agent,
    make_env,
    make_parts,
    reference_of,
    resolve_device,
)
from balrl.display import Display, SilentDisplay
from balrl.errors import UserError
from balrl.presets import TrainConfig, dump_config, load_config

if TYPE_CHECKING:
    import torch

    from balrl.agents.base import Agent
    from balrl.evaluation import Evaluation
    from balrl.tracking import Tracker
    from balrl.trainer import Trainer


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_dir: where everything was written.
        finished: False if it was interrupted; ``balrl train --resume RUN_DIR`` goes on.
        summary: the contents of ``summary.json``.
    """

    run_dir: Path
    finished: bool
    summary: dict[str, Any]

    @property
    def final_score(self) -> float:
        """The last evaluation's score."""
        return float(self.summary["final"]["score"])


def train(config: TrainConfig, run_dir: str | Path | None = None, display: Display | None = None) -> RunResult:
    """Run all phases of a configuration and write everything to a new directory.

    Args:
        config: from `balrl.load_config`, or built by hand.
        run_dir: must not hold a run yet; by default ``runs/<agent>-<task>-s<seed>-<time>``.
        display: shows progress; silent by default.

    Raises:
        UserError: for a mistake in the configuration, the data or the directory.
    """
    from balrl.trainer import Trainer

    config.check_phases()
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    if _is_writable(path) and (path / "config.yaml").exists():
        raise UserError(f"'{path}' already holds a run: go on with --resume {path}, or choose another --run-dir")
    display = display or SilentDisplay()
    parts = make_parts(config, display)
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return _run(Trainer(config, parts, _start_tracker(config, path, display), path), config)


def resume(run_dir: str | Path, config: TrainConfig | None = None, display: Display | None = None) -> RunResult:
    """Go on with an interrupted run from its newest checkpoint.

    Args:
        run_dir: of the run.
        config: if given, must equal the run's own.
    """
    path = Path(run_dir)
    stored = read_run_config(path)
    if config is not None and config != stored:
        key, ours, theirs = _first_difference(config.model_dump(), stored.model_dump())
        raise UserError(
            f"'{path}' was started with {key} = {theirs!r}, you ask for {ours!r}: a run resumes with its own "
            "configuration; leave the setting out, or start a new run"
        )
    from balrl.checkpoint import newest_readable
    from balrl.trainer import Trainer

    _is_writable(path)
    display = display or SilentDisplay()
    checkpoint, state = newest_readable(path, display.notice)
    summary_file = path / "summary.json"
    if state and state["progress"]["phase"] == "done" and summary_file.exists():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        if summary["finished"]:
            return RunResult(path, True, summary)
    parts = make_parts(stored, display, state)
    if state and state["dataset_fingerprint"] != parts.identity["dataset_fingerprint"]:
        raise UserError(f"the data at '{stored.dataset}' is not what the run was started with: its contents changed")
    offset = state["metrics_offset"] if state else 0
    trainer = Trainer(stored, parts, _start_tracker(stored, path, display, offset), path)
    if checkpoint and not trainer.load(checkpoint):
        display.notice(
            f"{stored.env} cannot save its state: running episodes restart, the resumed run is not bit-exact"
        )
    return _run(trainer, stored)


def load_agent(path: str | Path, device: str = "auto") -> Agent:
    """Load the agent of a run (its newest checkpoint) or of a checkpoint directory. Nothing is unpickled."""
    from balrl.checkpoint import find_checkpoint, load_state, load_tensors
    from balrl.config import validate
    from balrl.spaces import space_from_json

    checkpoint = find_checkpoint(Path(path))
    state = load_state(checkpoint)
    config = validate(TrainConfig, state["config"], f"checkpoint '{checkpoint}'")
    target = resolve_device(device)
    agent = make_agent(
        config.agent,
        space_from_json(state["observation_space"]),
        space_from_json(state["action_space"]),
        target,
    )
    agent.load_state_dict(load_tensors(checkpoint, "agent", target, required=True))
    agent.load_progress(state["agent"])
    return agent


def evaluate(
    agent: Agent | str | Path,
    env_id: str | None = None,
    episodes: int = 10,
    seed: int = 10_000,
    env_kwargs: dict[str, Any] | None = None,
    num_envs: int = 10,
    device: str = "auto",
    balance: float | None = None,
) -> Evaluation:
    """Evaluate an agent's deterministic policy.

    Args:
        agent: an agent, or the run or checkpoint directory of one.
        env_id: Gymnasium id; by default the task that the run was trained on.
        episodes: how many; returns come back one by one.
        seed: of the environments.
        balance: evaluate this member of the policy's family instead of the agent's own choice.
    """
    from balrl.checkpoint import find_checkpoint, load_state
    from balrl.evaluation import evaluate_policy
    from balrl.spaces import SpaceAdapter

    if isinstance(agent, str | Path):
        stored = load_state(find_checkpoint(Path(agent)))["config"]
        env_id = env_id or stored["env"]
        if env_id == stored["env"] and env_kwargs is None:
            env_kwargs = stored["env_kwargs"]
        agent = load_agent(agent, device)
    if env_id is None:
        raise UserError("which task? give env_id, an agent alone does not know its own")
    env = make_env(env_id, min(num_envs, episodes), agent.device, env_kwargs)
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    have = (agent.spaces.observation_dim, agent.spaces.action_dim)
    if have != (spaces.observation_dim, spaces.action_dim):
        raise UserError(
            f"the agent was made for {have[0]} observations and {have[1]} actions, environment {env_id} has "
            f"{spaces.observation_dim} and {spaces.action_dim}"
        )
    if balance is not None and not getattr(agent.balance, "is_family", False):
        raise UserError("this agent has one policy, not a family: only a state-adaptive balance has members to ask for")
    chosen = agent

    def act(observations: torch.Tensor) -> torch.Tensor:
        return chosen.act(observations, deterministic=True, balance=balance)

    try:
        return evaluate_policy(act, env, episodes, seed, agent.device, reference_of(env_id, env))
    finally:
        env.close()


def default_run_dir(config: TrainConfig) -> Path:
    """Return ``runs/<agent>-<task>-s<seed>-<time>``."""
    task = config.env.rsplit("/", 1)[-1]
    return Path("runs") / f"{config.agent.name}-{task}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def read_run_config(path: Path) -> TrainConfig:
    """Return the configuration that a run directory was started with."""
    if not (path / "config.yaml").is_file():
        raise UserError(f"'{path}' is no balrl run: it has no config.yaml; expected a directory that balrl train wrote")
    return load_config(file=path / "config.yaml")


def _run(trainer: Trainer, config: TrainConfig) -> RunResult:
    from balrl.pictures import draw_pictures
    from balrl.report.summary import write_summary

    path, parts = trainer.run_dir, trainer.parts
    outcome = "interrupted"
    try:
        with _stops_on_interrupt(trainer):
            outcome = trainer.run()
    finally:
        identity = parts.identity
        summary = write_summary(path, identity["config"], trainer.progress, identity["dataset_fingerprint"], outcome)
        shown = {key: summary[key] for key in ("final", "best", "switch")}
        trainer.tracker.close(shown, 0 if outcome == "finished" else 1)
        parts.close()
        draw_pictures(path, config, cast("Agent", parts.agent), parts.offline)
    return RunResult(path, outcome == "finished", summary)


def _start_tracker(config: TrainConfig, path: Path, display: Display, offset: int = 0) -> Tracker:
    from balrl.tracking import Tracker

    tracking = config.tracking
    tracker = Tracker(
        path, config.model_dump(mode="json"), tracking.wandb, tracking.project, offset, tracking.tensorboard
    )
    if tracker.notice:
        display.notice(tracker.notice)
    return tracker


def _is_writable(path: Path) -> bool:
    """Return True; raise a `UserError` if the directory, or the nearest one above that exists, cannot be written to."""
    try:
        nearest = path
        while not nearest.exists():
            nearest = nearest.parent
    except OSError as error:
        raise UserError(f"cannot write to the run directory '{path}': {error.strerror}") from error
    if not nearest.is_dir():
        raise UserError(f"cannot write to the run directory '{path}': '{nearest}' is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to the run directory '{path}': permission denied")
    return True


@contextmanager
def _stops_on_interrupt(trainer: Trainer) -> Iterator[None]:
    """Turn the first Ctrl-C (or a termination) into a saved stop; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        with nullcontext():
            yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: Any) -> None:
        trainer.stop_requested = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_difference(ours: Any, theirs: Any, prefix: str = "") -> tuple[str, Any, Any]:
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            return _first_difference(a, b, f"{prefix}{key}.")
        return prefix + key, a, b
    raise AssertionError("the configurations are equal")
