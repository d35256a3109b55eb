"""What can be done with a trained agent: load it, evaluate it with its task or without, film it, see its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.registration import agent_class
from balrl.best_action import check_best_of, repeatable_policy
from balrl.checkpoint import AGENT, load_state, read_checkpoint
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.devices import check_device
from balrl.envs.gymnasium_env import DEFAULT_LIMIT
from balrl.errors import UserError
from balrl.evaluation import Evaluation, Preference, evaluate_policy, together
from balrl.run.family import balance_of, constant
from balrl.run.family_curve import family_curve
from balrl.run.given import GivenTask
from balrl.run.imports import check_imported
from balrl.run.objectives import Shown, evaluated_preferences
from balrl.run.offline_evaluation import estimate_offline
from balrl.run.presets import HoldsAgent
from balrl.run.registry import load_dataset, make_drawn_env, make_env, reference_of, step_limit
from balrl.settings import validate
from balrl.spaces import SpaceAdapter, reward_dim
from balrl.vector_critics import checked_preference, with_preference
from balrl.video import check_film, film_episode, write_film


def load_agent(path: str | Path, device: str = "auto") -> Agent:
    """Load an agent: of a run (its newest checkpoint), of a checkpoint, or one that was saved with `Agent.save`.

    Nothing is unpickled, and nothing is imported that the file names.

    Raises:
        UserError: when there is none, or it is damaged.
    """

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
    best_of: int = 1,
    objective: str = "wco",
    preference: Preference | None = None,
    preferences: int = 5,
) -> Evaluation:
    """Evaluate an agent's deterministic policy, or the best of several samples by its critics.

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
        best_of: samples of the policy, of which the best acts; 1: the policy's mode.
        objective: of the critics' values, by which it is the best; wco is their minimum.
        preference: over several rewards ``[m]``, under which the agent plays and returns are weighed; or a function of
            observations ``[N, ·]`` and steps ``[N]`` that gives one for each step.
        preferences: without one, how many an agent for several rewards plays, at least, spread evenly on the simplex;
            `episodes` each.

    Raises:
        UserError: when agent and task do not fit, or a weight is not finite.
        EnvironmentFault: when the task returns what no task returns.
    """
    chosen, task, env_kwargs = _agent_and_task(agent, env, env_kwargs, device)
    stored = {} if isinstance(agent, Agent) else stored_config(agent)
    own_weights = stored_weights(stored)
    weights = () if preference is not None else own_weights
    worlds = make_env(task, min(num_envs, episodes), chosen.device, env_kwargs, reward_weights=weights)
    limit = max_episode_steps or (None if step_limit(worlds) else DEFAULT_LIMIT)
    try:
        check_best_of(chosen, best_of)
        act = _policy(chosen, worlds, str(task), balance, best_of, objective, seed)
        several = reward_dim(worlds) > 1
        if several and chosen.reward_dim == 1:
            act = _of_one_reward(chosen, act, own_weights)
        reference = reference_of(task, worlds) if not several and not weights else None
        asked = [preference] if preference is not None else evaluated_preferences(chosen.config, preferences)
        found = [
            evaluate_policy(act, worlds, episodes, seed, chosen.device, reference, limit, preference=one)
            for one in asked
        ]
        point = (stored.get("evaluation") or {}).get("hypervolume_reference")
        return together(found, tuple(point) if point and several else None)
    finally:
        if not isinstance(task, GivenTask) or task.num_envs is None:
            worlds.close()


def stored_config(agent: str | Path) -> dict[str, Any]:
    """Return the configuration that a run or checkpoint was written with."""
    found: dict[str, Any] = read_checkpoint(Path(agent), lambda checkpoint: load_state(checkpoint, AGENT))["config"]
    return found


def stored_weights(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the weights of the rewards whose sum a configuration's agent learned from; none for any other."""
    return tuple((config.get("data") or {}).get("reward_weights") or ())


def _of_one_reward(agent: Agent, act: Callable[[Tensor], Tensor], weights: Sequence[float]) -> Shown:
    """Return the policy of an agent that knows one reward, for a task of several with a preference beside observations.

    Args:
        weights: of the rewards whose sum it learned from.
    """
    if agent.remembers and not weights:
        raise UserError(
            f"agent {agent.config.name} remembers what it was paid, which was one reward; the task pays several, and "
            "how they were weighed is not known: give the run or checkpoint that was trained with data.reward_weights"
        )
    width = agent.spaces.observation_dim
    return Shown(act, lambda observations: observations[:, :width], weights or None)


def record_video(
    agent: Agent | str | Path,
    path: str | Path,
    env: Any = None,
    seed: int = 10_000,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    balance: float | None = None,
    preference: Sequence[float] | None = None,
) -> int:
    """Film one episode of an agent's deterministic policy, write it and return how many steps it took.

    Args:
        agent: an agent, or the run or checkpoint directory of one.
        path: of the file, ``.mp4`` (extra `film`) or ``.gif``, ten times as large.
        env, env_kwargs, seed, balance: as `evaluate`'s; a callable must make worlds that can be drawn.
        preference: over several rewards, of an agent for several; by default its own.

    Raises:
        UserError: also where the task cannot be drawn; MuJoCo's need a display, EGL or OSMesa.
    """
    target = check_film(Path(path))
    chosen, task, env_kwargs = _agent_and_task(agent, env, env_kwargs, device)
    stored = {} if isinstance(agent, Agent) else stored_config(agent)
    world = make_drawn_env(task, chosen.device, env_kwargs, stored_weights(stored))
    try:
        act = _policy(chosen, world, str(task), balance)
        if chosen.reward_dim > 1 and preference is not None:
            asked = checked_preference(preference, chosen.reward_dim)
            act = Shown(act, lambda observations: with_preference(observations, asked))
        film = film_episode(act, world, seed, chosen.device)
    finally:
        world.close()
    write_film(film, target)
    return film.steps


def family(
    agent: str | Path,
    env: Any = None,
    episodes: int = 20,
    members: int = 8,
    seed: int = 10_000,
    num_envs: int = 10,
    device: str = "auto",
    dataset: Dataset | str | Path | None = None,
    offline_updates: int = 5_000,
) -> list[dict[str, Any]]:
    """Play every member of a policy's family, and set beside their returns what the critics expect of them.

    Args:
        agent: the run or checkpoint directory of an agent with a state-adaptive balance.
        env: as `evaluate`'s.
        episodes: of each member; all meet the same first states.
        members: spread in the logarithm over the family's range, beside the model's own choice.
        seed, num_envs, device: as `evaluate`'s.
        dataset: for the offline estimates: data, a path or a name; by default the run's own, if it is there.
        offline_updates: of fitted Q evaluation; 0 leaves it out.

    Returns:
        one record per member, the own choice first: ``label``, ``balance``, ``episodes``, ``mean``, ``low``, ``high``,
        ``score``, ``success_rate`` and, with data, ``mean_q``, ``conservative_q`` and ``fitted_q``.

    Raises:
        UserError: when the policy is no family, or task or data do not fit.
    """
    chosen, task, env_kwargs = _agent_and_task(agent, env, None, device)
    balance_of(chosen)
    if chosen.reward_dim > 1:
        raise UserError(
            f"a family's curve is of one reward, the agent learned from {chosen.reward_dim}: evaluate its members one "
            "by one, with --balance and --preference"
        )
    data, rewards = _data_of(Path(agent), dataset, required=False)
    worlds = make_env(task, min(num_envs, episodes), chosen.device, env_kwargs)
    try:
        _policy(chosen, worlds, str(task), None)
        limit = None if step_limit(worlds) else DEFAULT_LIMIT
        reference = reference_of(task, worlds)
        return family_curve(chosen, worlds, episodes, seed, members, reference, limit, data, rewards, offline_updates)
    finally:
        if not isinstance(task, GivenTask) or task.num_envs is None:
            worlds.close()


def evaluate_offline(
    agent: str | Path,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    balance: float | None = None,
    updates: int = 5_000,
) -> dict[str, float]:
    """Estimate what an agent's deterministic policy returns from logged data alone; see `estimate_offline`.

    Args:
        agent: the run or checkpoint directory of an agent.
        dataset: data, a path or a name; by default the run's own.
        device: of the agent.
        balance: a member of the policy's family instead of its own choice.
        updates: of fitted Q evaluation.

    Raises:
        UserError: without data, for a balance that there is not, or where nothing is left to estimate.
    """
    chosen = load_agent(agent, device)
    if balance is not None:
        constant(balance_of(chosen), balance)
    data, rewards = _data_of(Path(agent), dataset, required=True)
    assert data is not None

    def policy(observations: Tensor) -> Tensor:
        return chosen.serve(observations, balance=balance)

    found = estimate_offline(chosen, [policy], data, rewards, updates)[0]
    if not found:
        raise UserError(
            f"there is nothing to estimate: agent {chosen.config.name} has no critics, and without updates there is no "
            "fitted Q evaluation; give it some (--offline-updates)"
        )
    return found


def _data_of(
    path: Path, dataset: Dataset | str | Path | None, required: bool
) -> tuple[Dataset | None, RewardTransform]:
    """Return the data that is given, else a run's own, and the units of the run's rewards."""
    state = read_checkpoint(path, lambda checkpoint: load_state(checkpoint, AGENT))
    rewards = RewardTransform(**state["rewards"])
    if isinstance(dataset, Dataset):
        return dataset, rewards
    name = dataset if dataset is not None else state["config"].get("dataset")
    if name is None:
        if required:
            raise UserError("which data? the agent knows none of its own: pass --dataset FILE")
        return None, rewards
    try:
        data = state["config"].get("data") or {}
        keys = data.get("observation_keys") or ()
        return load_dataset(str(name), data.get("max_episode_steps"), observation_keys=keys), rewards
    except UserError:
        if required or dataset is not None:
            raise
        return None, rewards


def _agent_and_task(
    agent: Agent | str | Path, env: Any, env_kwargs: dict[str, Any] | None, device: str
) -> tuple[Agent, str | GivenTask, dict[str, Any] | None]:
    """Return the agent, and the task that it was trained on unless another is named or handed over."""
    if isinstance(agent, str | Path):
        stored = stored_config(agent)
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
    agent: Agent,
    env: gym.vector.VectorEnv[Any, Any, Any],
    env_id: str,
    balance: float | None,
    best_of: int = 1,
    objective: str = "wco",
    seed: int = 0,
) -> Callable[[Tensor], Tensor]:
    """Return the agent's repeatable policy, having checked that it fits the environment."""
    spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
    have = (agent.spaces.observation_dim, agent.spaces.step_action_dim)
    if have != (spaces.observation_dim, spaces.action_dim):
        raise UserError(
            f"the agent was made for {have[0]} observations and {have[1]} actions, environment {env_id} has "
            f"{spaces.observation_dim} and {spaces.action_dim}"
        )
    if agent.reward_dim not in (1, reward_dim(env)):
        raise UserError(
            f"the agent learned from {agent.reward_dim} rewards a step, environment {env_id} has {reward_dim(env)}"
        )
    if balance is not None and not agent.is_family:
        raise UserError("this agent has one policy, not a family: only a state-adaptive balance has members to ask for")
    return repeatable_policy(agent, best_of, objective, seed, balance)
