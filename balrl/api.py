"""What users call: `train`, `train_population`, `resume`, `evaluate`, … Exposed lazily as ``balrl.<name>``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.agents.registration import agent_class
from balrl.errors import UserError, check_target
from balrl.run.presets import TrainConfig
from balrl.run.registry import make_agent, make_drawn_env, make_env, reference_of, resolve_device
from balrl.run.start_and_resume import (
    RunResult,
    default_run_dir,
    member_dirs,
    prepare_run,
    reopen_run,
    run_to_its_end,
    run_together,
    start_run,
    stops_on_interrupt,
)
from balrl.watch.display import Display, MemberDisplay, SilentDisplay

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agent import Agent
    from balrl.evaluation import Evaluation


def train(config: TrainConfig, run_dir: str | Path | None = None, display: Display | None = None) -> RunResult:
    """Run all phases of a configuration and write everything to a new directory.

    Args:
        config: from `balrl.load_config`, or built by hand.
        run_dir: must not hold a run yet; by default ``runs/<agent>-<task>-s<seed>-<time>``.
        display: shows progress; silent by default.

    Raises:
        UserError: for a mistake in the configuration, the data or the directory.
    """
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    trainer = start_run(config, prepare_run(config, path, display or SilentDisplay()), path)
    with stops_on_interrupt(trainer):
        return run_to_its_end(trainer)


def resume(run_dir: str | Path, config: TrainConfig | None = None, display: Display | None = None) -> RunResult:
    """Go on with an interrupted run from its newest checkpoint.

    Args:
        run_dir: of the run.
        config: if given, must equal the run's own.
    """
    opened = reopen_run(Path(run_dir), config, display or SilentDisplay())
    if isinstance(opened, RunResult):
        return opened
    with stops_on_interrupt(opened):
        return run_to_its_end(opened)


def train_population(
    members: Mapping[str, TrainConfig], run_dir: str | Path, display: Display | None = None
) -> dict[str, RunResult]:
    """Train several runs as one batched computation; each is what it would be alone.

    Args:
        members: their configurations, by name; from `balrl.member_configs`.
        run_dir: gets one run directory for each, ``run_dir/name``.
        display: shows progress; silent by default.

    Returns:
        How each ended.

    Raises:
        UserError: for a mistake in the configurations, the data or the directory.
    """
    display, folder = display or SilentDisplay(), Path(run_dir)
    if member_dirs(folder) or (folder / "config.yaml").exists():
        raise UserError(f"'{folder}' already holds runs: go on with --resume {folder}, or choose another --run-dir")
    for config in members.values():
        if agent_class(config.agent).on_policy:
            raise UserError(
                f"agent {config.agent.name} learns from its own rollouts and cannot share updates: train its seeds one "
                "by one"
            )
    shared: dict[Any, Any] = {}
    prepared = {
        name: prepare_run(config, folder / name, MemberDisplay(display, name), shared)
        for name, config in members.items()
    }
    trainers = {name: start_run(config, prepared[name], folder / name, shared) for name, config in members.items()}
    return run_together(trainers, display)


def resume_population(run_dir: str | Path, display: Display | None = None) -> dict[str, RunResult]:
    """Go on with every interrupted run in a population's directory.

    Raises:
        UserError: when there is none.
    """
    paths = member_dirs(Path(run_dir))
    if not paths:
        raise UserError(f"'{run_dir}' is no population: none of its folders holds a run")
    display = display or SilentDisplay()
    shared: dict[Any, Any] = {}
    opened = {path.name: reopen_run(path, None, MemberDisplay(display, path.name), shared) for path in paths}
    ended = {name: run for name, run in opened.items() if isinstance(run, RunResult)}
    return ended | run_together({n: run for n, run in opened.items() if not isinstance(run, RunResult)}, display)


def load_agent(path: str | Path, device: str = "auto") -> Agent:
    """Load the agent of a run (its newest checkpoint) or of a checkpoint directory. Nothing is unpickled."""
    from balrl.checkpoint import find_checkpoint, load_state, load_tensors
    from balrl.settings import validate
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
    agent.load_phase_state(state["agent"])
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
    from balrl.evaluation import evaluate_policy

    chosen, env_id, env_kwargs = _agent_and_task(agent, env_id, env_kwargs, device)
    env = make_env(env_id, min(num_envs, episodes), chosen.device, env_kwargs)
    try:
        act = _policy(chosen, env, env_id, balance)
        return evaluate_policy(act, env, episodes, seed, chosen.device, reference_of(env_id, env))
    finally:
        env.close()


def record_video(
    agent: Agent | str | Path,
    path: str | Path,
    env_id: str | None = None,
    seed: int = 10_000,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    balance: float | None = None,
) -> int:
    """Film one episode of an agent's deterministic policy, write it as a GIF and return how many steps it took.

    Args:
        agent: an agent, or the run or checkpoint directory of one.
        path: of the file, ``.gif``.
        env_id, env_kwargs, seed, balance: as `evaluate`'s.

    Raises:
        UserError: also where the task cannot be drawn; MuJoCo's need a display, EGL or OSMesa.
    """
    from balrl.video import film_episode, write_gif

    target = check_target(Path(path), (".gif",))
    chosen, env_id, env_kwargs = _agent_and_task(agent, env_id, env_kwargs, device)
    env = make_drawn_env(env_id, chosen.device, env_kwargs)
    try:
        film = film_episode(_policy(chosen, env, env_id, balance), env, seed, chosen.device)
    finally:
        env.close()
    write_gif(film, target)
    return film.steps


def _agent_and_task(
    agent: Agent | str | Path, env_id: str | None, env_kwargs: dict[str, Any] | None, device: str
) -> tuple[Agent, str, dict[str, Any] | None]:
    """Return the agent, and the task that it was trained on unless another is named."""
    from balrl.checkpoint import find_checkpoint, load_state

    if isinstance(agent, str | Path):
        stored = load_state(find_checkpoint(Path(agent)))["config"]
        env_id = env_id or stored["env"]
        if env_id == stored["env"] and env_kwargs is None:
            env_kwargs = stored["env_kwargs"]
        agent = load_agent(agent, device)
    if env_id is None:
        raise UserError("which task? give env_id, an agent alone does not know its own")
    return agent, env_id, env_kwargs


def _policy(
    agent: Agent, env: gym.vector.VectorEnv[Any, Any, Any], env_id: str, balance: float | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the agent's deterministic policy, having checked that it fits the environment."""
    from balrl.spaces import SpaceAdapter

    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    have = (agent.spaces.observation_dim, agent.spaces.action_dim)
    if have != (spaces.observation_dim, spaces.action_dim):
        raise UserError(
            f"the agent was made for {have[0]} observations and {have[1]} actions, environment {env_id} has "
            f"{spaces.observation_dim} and {spaces.action_dim}"
        )
    if balance is not None and not agent.is_family:
        raise UserError("this agent has one policy, not a family: only a state-adaptive balance has members to ask for")
    return lambda observations: agent.act(observations, deterministic=True, balance=balance)
