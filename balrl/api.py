"""What users call: `train`, `train_population`, `resume`, `evaluate`, … Exposed lazily as ``balrl.<name>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.agents.registration import agent_class
from balrl.errors import UserError, check_target
from balrl.run.given import GivenTask
from balrl.run.imports import check_imported, import_modules
from balrl.run.inputs import take, take_for_all
from balrl.run.populations import (
    begin_population,
    common_checkpoint,
    complete_population,
    is_population,
    released_on_error,
    run_together,
)
from balrl.run.presets import HoldsAgent, TrainConfig
from balrl.run.registry import make_drawn_env, make_env, reference_of, step_limit
from balrl.run.start_and_resume import (
    RunResult,
    default_run_dir,
    prepare_run,
    read_run_config,
    reopen_run,
    run_to_its_end,
    start_run,
    stops_on_interrupt,
)
from balrl.watch.callbacks import check_callbacks
from balrl.watch.display import Display, MemberDisplay

if TYPE_CHECKING:
    import gymnasium as gym
    import torch

    from balrl.agent import Agent
    from balrl.evaluation import Evaluation
    from balrl.run.trainer import Trainer


def train(
    config: TrainConfig,
    run_dir: str | Path | None = None,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> RunResult:
    """Run all phases of a configuration and write everything to a new directory.

    Args:
        config: from `balrl.load_config`, or built by hand.
        run_dir: must not hold a run yet; by default ``runs/<method>-<task>-s<seed>-<time>``.
        display: shows progress; silent by default.
        dataset: in place of the configuration's: a path or name, a `balrl.Dataset`, a dictionary of arrays, or a Minari
            dataset.
        env: in place of the configuration's: a Gymnasium id, a callable without arguments that makes one environment
            (or a vector of them), or a `gymnasium.vector.VectorEnv`.
        callbacks: `balrl.Callback`s, or classes of them.

    Raises:
        UserError: for a mistake in the configuration, the data or the directory.
        EnvironmentFault: when the task returns what no task returns.
    """
    import_modules(config.imports, "imports:")
    config, given = take(config, dataset, env)
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    called = check_callbacks(callbacks)
    trainer = start_run(config, prepare_run(config, path, display or Display(), given=given), path, callbacks=called)
    with stops_on_interrupt(trainer):
        return run_to_its_end(trainer)


def resume(
    run_dir: str | Path,
    config: TrainConfig | None = None,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> RunResult:
    """Go on with an interrupted run from its newest checkpoint.

    Args:
        run_dir: of the run.
        config: if given, must equal the run's own.
        display: shows progress; silent by default.
        dataset, env: what `train` was handed over as objects, again.
        callbacks: as `train`'s; which there were before does not matter.

    Raises:
        UserError: when the run cannot be gone on with.
        EnvironmentFault: when the task returns what no task returns.
    """
    path = Path(run_dir)
    named, given = take(read_run_config(path), dataset, env)
    opened = reopen_run(
        path,
        named if config is None else config,
        display or Display(),
        given=given,
        callbacks=check_callbacks(callbacks),
    )
    if isinstance(opened, RunResult):
        return opened
    with stops_on_interrupt(opened):
        return run_to_its_end(opened)


def train_population(
    members: Mapping[str, TrainConfig],
    run_dir: str | Path,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> dict[str, RunResult]:
    """Train several runs as one batched computation; each is what it would be alone.

    Args:
        members: their configurations, by name; from `balrl.member_configs`.
        run_dir: gets one run directory for each, ``run_dir/name``.
        display: shows progress; silent by default.
        dataset, env: as `train`'s, for all of them; a vector environment must come from a callable.
        callbacks: called by every member.

    Returns:
        How each ended.

    Raises:
        UserError: for a mistake in the configurations, the data or the directory.
    """
    display, folder = display or Display(), Path(run_dir)
    if is_population(folder) or (folder / "config.yaml").exists():
        raise UserError(f"'{folder}' already holds runs: go on with --resume {folder}, or choose another --run-dir")
    for config in members.values():
        import_modules(config.imports, "imports:")
        if agent_class(config.agent).on_policy:
            raise UserError(
                f"agent {config.agent.name} learns from its own rollouts and cannot share updates: train its seeds one "
                "by one"
            )
    taken = take_for_all(members, dataset, env)
    shared: dict[Any, Any] = {}
    prepared = {
        name: prepare_run(config, folder / name, MemberDisplay(display, name), shared, given)
        for name, (config, given) in taken.items()
    }
    called = check_callbacks(callbacks)
    begin_population(folder, {name: config for name, (config, _) in taken.items()})
    trainers: dict[str, Trainer] = {}
    with released_on_error(trainers):
        for name, (config, _) in taken.items():
            trainers[name] = start_run(config, prepared[name], folder / name, shared, called)
    return run_together(trainers, display, list(trainers))


def resume_population(
    run_dir: str | Path,
    display: Display | None = None,
    *,
    dataset: Any = None,
    env: Any = None,
    callbacks: Iterable[Any] = (),
) -> dict[str, RunResult]:
    """Go on with every interrupted run in a population's directory.

    Args:
        run_dir: of the population.
        display: shows progress; silent by default.
        dataset, env, callbacks: as `resume`'s.

    Raises:
        UserError: when there is none.
    """
    paths = complete_population(Path(run_dir))
    display = display or Display()
    shared: dict[Any, Any] = {}
    called, until = check_callbacks(callbacks), common_checkpoint(paths, display.notice)
    taken = take_for_all({path.name: read_run_config(path) for path in paths}, dataset, env)
    ended: dict[str, RunResult] = {}
    left: dict[str, Trainer] = {}
    with released_on_error(left):
        for path in paths:
            config, given = taken[path.name]
            opened = reopen_run(path, config, MemberDisplay(display, path.name), shared, given, called, until)
            if isinstance(opened, RunResult):
                ended[path.name] = opened
            else:
                left[path.name] = opened
    return ended | run_together(left, display, [path.name for path in paths])


def load_agent(path: str | Path, device: str = "auto") -> Agent:
    """Load an agent: of a run (its newest checkpoint), of a checkpoint, or one that was saved with `Agent.save`.

    Nothing is unpickled, and nothing is imported that the file names.

    Raises:
        UserError: when there is none, or it is damaged.
    """
    from balrl.checkpoint import AGENT, load_state, read_checkpoint
    from balrl.devices import check_device
    from balrl.settings import validate

    def read(checkpoint: Path) -> Agent:
        state = load_state(checkpoint, AGENT)
        config = validate(HoldsAgent, {"agent": state["config"].get("agent")}, f"checkpoint '{checkpoint}'").agent
        return agent_class(config).load(checkpoint, check_device(device))

    return read_checkpoint(Path(path), read)


def evaluate(
    agent: Agent | str | Path,
    env: Any = None,
    episodes: int = 10,
    seed: int = 10_000,
    env_kwargs: dict[str, Any] | None = None,
    num_envs: int = 10,
    device: str = "auto",
    balance: float | None = None,
    max_episode_steps: int | None = None,
) -> Evaluation:
    """Evaluate an agent's deterministic policy.

    Args:
        agent: an agent, or the run or checkpoint directory of one.
        env: Gymnasium id, callable or vector environment, as `train`'s; by default the task that the run was trained
            on.
        episodes: how many; returns come back one by one.
        seed: of the environments.
        env_kwargs: of a task that is given by its id.
        num_envs: worlds side by side.
        device: of an agent that is loaded.
        balance: evaluate this member of the policy's family instead of the agent's own choice.
        max_episode_steps: after which an episode counts as it stands; default: the task's own limit, else 10,000.

    Raises:
        UserError: when agent and task do not fit, or a weight is not finite.
        EnvironmentFault: when the task returns what no task returns.
    """
    from balrl.envs.gymnasium_env import DEFAULT_LIMIT
    from balrl.evaluation import evaluate_policy

    chosen, task, env_kwargs = _agent_and_task(agent, env, env_kwargs, device)
    worlds = make_env(task, min(num_envs, episodes), chosen.device, env_kwargs)
    limit = max_episode_steps or (None if step_limit(worlds) else DEFAULT_LIMIT)
    try:
        act = _policy(chosen, worlds, str(task), balance)
        return evaluate_policy(act, worlds, episodes, seed, chosen.device, reference_of(task, worlds), limit)
    finally:
        if not isinstance(task, GivenTask) or task.num_envs is None:
            worlds.close()


def record_video(
    agent: Agent | str | Path,
    path: str | Path,
    env: Any = None,
    seed: int = 10_000,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    balance: float | None = None,
) -> int:
    """Film one episode of an agent's deterministic policy, write it as a GIF and return how many steps it took.

    Args:
        agent: an agent, or the run or checkpoint directory of one.
        path: of the file, ``.gif``.
        env, env_kwargs, seed, balance: as `evaluate`'s; a callable must make worlds that can be drawn.

    Raises:
        UserError: also where the task cannot be drawn; MuJoCo's need a display, EGL or OSMesa.
    """
    from balrl.video import film_episode, write_gif

    target = check_target(Path(path), (".gif",))
    chosen, task, env_kwargs = _agent_and_task(agent, env, env_kwargs, device)
    world = make_drawn_env(task, chosen.device, env_kwargs)
    try:
        film = film_episode(_policy(chosen, world, str(task), balance), world, seed, chosen.device)
    finally:
        world.close()
    write_gif(film, target)
    return film.steps


def _agent_and_task(
    agent: Agent | str | Path, env: Any, env_kwargs: dict[str, Any] | None, device: str
) -> tuple[Agent, str | GivenTask, dict[str, Any] | None]:
    """Return the agent, and the task that it was trained on unless another is named or handed over."""
    from balrl.checkpoint import AGENT, load_state, read_checkpoint

    if isinstance(agent, str | Path):
        stored = read_checkpoint(Path(agent), lambda checkpoint: load_state(checkpoint, AGENT))["config"]
        if env is None and stored.get("env"):
            check_imported(stored.get("imports", ()), f"'{agent}'")
            env, env_kwargs = str(stored["env"]), stored.get("env_kwargs") if env_kwargs is None else env_kwargs
        elif env == stored.get("env") and env_kwargs is None:
            env_kwargs = stored.get("env_kwargs")
        agent = load_agent(agent, device)
    if env is None:
        raise UserError("which task? give env, an agent alone does not know its own")
    for name, value in agent.named_parameters():
        if not bool(value.isfinite().all()):
            raise UserError(f"the agent's '{name}' is not finite: its training diverged; take a checkpoint from before")
    return agent, env if isinstance(env, str) else GivenTask(env), env_kwargs


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
    return lambda observations: agent.serve(observations, balance=balance)
