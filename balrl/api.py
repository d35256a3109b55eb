"""What users call: `train`, `resume`, `evaluate`, `load_agent`. Exposed lazily as ``balrl.<name>``."""

from __future__ import annotations

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
from balrl.errors import UserError
from balrl.presets import TrainConfig, dump_config, load_config

if TYPE_CHECKING:
    import torch

    from balrl.agents.base import Agent
    from balrl.evaluation import Evaluation
    from balrl.trainer import Display, Trainer


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
    config.check_phases()
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    _prepare_run_dir(path)
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return _run(config, path, display, resume=False)


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
    return _run(stored, path, display, resume=True)


def load_agent(path: str | Path, device: str = "auto") -> Agent:
    """Load the agent of a run (its newest checkpoint) or of a checkpoint directory. Nothing is unpickled."""
    from balrl.checkpoint import load_state, load_tensors
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
    agent.load_state_dict(load_tensors(checkpoint, "agent", target))
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
    from balrl.checkpoint import load_state
    from balrl.evaluation import evaluate_policy

    if isinstance(agent, str | Path):
        stored = load_state(find_checkpoint(Path(agent)))["config"]
        if env_id is None:
            env_id, env_kwargs = stored["env"], stored["env_kwargs"]
        agent = load_agent(agent, device)
    if env_id is None:
        raise UserError("which task? give env_id, an agent alone does not know its own")
    env = make_env(env_id, min(num_envs, episodes), agent.device, env_kwargs)
    have = (agent.spaces.observation_space.shape, agent.spaces.action_space.shape)
    want = (env.single_observation_space.shape, env.single_action_space.shape)
    if have != want:
        raise UserError(
            f"the agent was made for observations {have[0]} and actions {have[1]}, environment {env_id} has "
            f"{want[0]} and {want[1]}"
        )
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


def find_checkpoint(path: Path) -> Path:
    """Return `path` if it is a checkpoint, the newest checkpoint if it is a run."""
    from balrl.checkpoint import STATE_FILE, latest_checkpoint

    if not path.exists():
        raise UserError(f"'{path}' does not exist; expected a run or checkpoint directory")
    if (path / STATE_FILE).is_file():
        return path
    latest = latest_checkpoint(path)
    if latest is None:
        raise UserError(f"'{path}' is neither a balrl run with a checkpoint nor a checkpoint directory")
    return latest


def _run(config: TrainConfig, path: Path, display: Display | None, resume: bool) -> RunResult:
    from balrl.checkpoint import latest_checkpoint, load_state
    from balrl.display import SilentDisplay
    from balrl.pictures import draw_pictures
    from balrl.report.summary import write_summary
    from balrl.trainer import Trainer

    checkpoint = latest_checkpoint(path) if resume else None
    state = load_state(checkpoint) if checkpoint else None
    offset = state["metrics_offset"] if state else (0 if resume else None)
    parts = make_parts(config, path, display or SilentDisplay(), offset)
    trainer = Trainer(config, parts, path)
    if checkpoint and state:
        if state["dataset_fingerprint"] != parts.identity["dataset_fingerprint"]:
            parts.tracker.close(exit_code=1)
            raise UserError(
                f"the data at '{config.dataset}' is not what the run was started with: its contents changed"
            )
        if not trainer.load(checkpoint):
            parts.display.notice(
                f"{config.env} cannot save its physics: running episodes restart, the resumed run is not bit-exact"
            )
    if parts.tracker.notice:
        parts.display.notice(parts.tracker.notice)
    finished = False
    try:
        with _stops_on_interrupt(trainer):
            finished = trainer.run()
    finally:
        identity = parts.identity
        summary = write_summary(path, identity["config"], trainer.progress, identity["dataset_fingerprint"], finished)
        draw_pictures(path, config, cast("Agent", parts.agent), parts.offline)
        parts.tracker.close({"final": summary["final"], "best": summary["best"]}, 0 if finished else 1)
    return RunResult(path, finished, summary)


def _prepare_run_dir(path: Path) -> None:
    if (path / "config.yaml").exists():
        raise UserError(f"'{path}' already holds a run: go on with --resume {path}, or choose another --run-dir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "checkpoints").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to the run directory '{path}': {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot write to the run directory '{path}': permission denied")


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
