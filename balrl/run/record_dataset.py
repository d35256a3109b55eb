"""Recording data: a policy in a task, episode after episode, into a file that can be gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from balrl.data.dataset import Array
from balrl.data.writer import EpisodeWriter
from balrl.devices import check_device
from balrl.errors import UserError
from balrl.remembering import RememberingPolicy
from balrl.rollout import Collector, Step
from balrl.run.components import Stop
from balrl.run.interrupts import on_interrupt
from balrl.run.registry import make_agent, make_env
from balrl.run.trained import load_agent
from balrl.run.warm_start import read_source
from balrl.spaces import SpaceAdapter
from balrl.vector_critics import draw_preferences, with_preference

if TYPE_CHECKING:
    from balrl.agent import Agent


def record_dataset(
    env_id: str,
    source: str,
    steps: int,
    out: str | Path,
    seed: int = 0,
    deterministic: bool = False,
    noise: float = 0.0,
    epsilon: float = 0.0,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Record at least `steps` transitions of whole episodes and one cut one into a D4RL HDF5 file.

    Episode ``i`` starts from seed ``seed + i`` and draws its actions from that seed too, so a recording that was
    stopped and gone on with is the same as one that was not. An agent for several rewards plays each episode under a
    preference drawn for it.

    Args:
        source: ``random``, a run or checkpoint directory, or a stable-baselines3 SAC zip (weights only).
        steps: how many transitions; the last episode is cut (truncated) there.
        out: of the file; ``<out>.partial`` while it grows.
        deterministic: the policy's mode in place of samples.
        noise: standard deviation of normal noise added to actions in [-1, 1].
        epsilon: share of steps with a uniformly random action.
        progress: told how many transitions there are.

    Returns:
        the number of episodes.

    Raises:
        UserError: when source, task and file do not fit together.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"'{out}' exists already; choose another --out, or move it away")
    env = make_env(env_id, 1, check_device("cpu"), env_kwargs)
    agent = _load_policy(source, env, device)
    settings: dict[str, Any] = {
        "env": env_id,
        "env_kwargs": env_kwargs or {},
        "from": source,
        "seed": seed,
        "steps": steps,
    }
    settings |= {"deterministic": deterministic, "noise": noise, "epsilon": epsilon}
    collector = Collector(env, "cpu")
    action_dim = (collector if agent is None else agent).spaces.action_dim
    behaviour = _Behaviour(agent, action_dim, deterministic, noise, epsilon)
    writer = EpisodeWriter(out, settings)

    stop = Stop()
    try:
        while writer.rows < steps:
            behaviour.begin(seed + writer.episodes)
            collector.start(seed + writer.episodes)
            with on_interrupt(lambda: setattr(stop, "requested", True)):
                episode = _episode(collector, behaviour, steps - writer.rows, stop)
                if episode is not None:
                    writer.add(episode)
            if stop.requested:
                raise KeyboardInterrupt
            progress(writer.rows)
        episodes = writer.episodes
        how = f"{Path(source).name}, seed {seed}, noise {noise:g}, epsilon {epsilon:g}"
        writer.finish({"env_id": env_id, "dataset_name": out.stem, "behaviour": how})
    except BaseException:
        writer.close()
        raise
    finally:
        env.close()
    return episodes


class _Behaviour:
    """Who acts while data is recorded.

    Args:
        agent: None: actions are uniformly random, of `action_dim`.
        deterministic, noise, epsilon: as `record_dataset`'s.

    Raises:
        UserError: for noise on the actions of an agent that remembers them.
    """

    def __init__(self, agent: Agent | None, action_dim: int, deterministic: bool, noise: float, epsilon: float) -> None:
        self._agent, self._action_dim = agent, action_dim
        self._deterministic, self._noise, self._epsilon = deterministic, noise, epsilon
        self._preference = torch.empty(0)
        self._memory: RememberingPolicy | None = None
        if agent is not None and agent.remembers:
            if noise or epsilon:
                raise UserError(
                    f"agent {agent.config.name} remembers its own actions, which noise and epsilon would replace: "
                    "leave both at 0"
                )
            self._memory = RememberingPolicy(agent, explores=not deterministic)

    def begin(self, seed: int) -> None:
        """Begin an episode, whose random numbers are those of a seed."""
        torch.manual_seed(seed)
        if self._agent is not None:
            self._agent.stream.reseed(seed)
            self._preference = draw_preferences(torch.rand(self._agent.reward_dim))
        if self._memory is not None:
            self._memory.begin()

    def __call__(self, observations: Tensor) -> Tensor:
        """Return actions ``[1, action_dim]``."""
        uniform = 2 * torch.rand(1, self._action_dim) - 1
        if self._agent is None:
            return uniform
        if self._agent.reward_dim > 1:
            observations = with_preference(observations, self._preference)
        observations = observations.to(self._agent.device)
        if self._memory is not None:
            return self._memory(observations).cpu()
        actions = self._agent.serve(observations, self._deterministic).cpu()
        noisy = (actions + self._noise * torch.randn_like(actions)).clamp(-1, 1)
        return torch.where(torch.rand(1, 1) < self._epsilon, uniform, noisy)

    def saw(self, step: Step) -> None:
        """Take note of what became of the actions."""
        if self._memory is not None:
            self._memory.saw(step)


def _episode(collector: Collector, behaviour: _Behaviour, limit: int, stop: Stop) -> dict[str, Array] | None:
    """Step one world to the end of its episode, or for `limit` steps, and return what it saw, in the task's units.

    None if somebody asked for a stop before.
    """
    rows: list[tuple[Array, ...]] = []
    done = False
    while not done and len(rows) < limit:
        if stop.requested:
            return None
        step = collector.step(behaviour)
        behaviour.saw(step)
        batch, done = step.batch, bool(step.done[0])
        actions = collector.spaces.to_environment(batch.actions)
        success = bool(step.success_now[0]) if step.success_now is not None else False
        seen = (batch.observations, actions, batch.rewards, batch.next_observations, batch.terminated)
        rows.append((*(x[0].numpy() for x in seen), np.array(success)))
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "success")
    columns = {name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    columns["timeouts"] = np.zeros(len(rows), bool)
    columns["timeouts"][-1] = not columns["terminals"][-1]
    flags = columns.pop("success")
    return columns | ({"infos/success": flags} if collector.reports_success else {})


def _load_policy(source: str, env: Any, device: str) -> Agent | None:
    """Return the agent that acts, or None for random actions."""
    if source == "random":
        return None
    task = SpaceAdapter(env.single_observation_space, env.single_action_space)
    wanted = (task.observation_dim, task.action_dim)
    if not Path(source).is_file():
        agent = load_agent(source, device)
        found = (agent.spaces.observation_dim, agent.spaces.step_action_dim)
    else:
        stored = read_source(source)
        agent = make_agent(stored.config, env.single_observation_space, env.single_action_space, check_device(device))
        found = (stored.tensors["normalizer.mean"].shape[0], stored.tensors["policy.mean.bias"].shape[0])
        if wanted == found:
            agent.load_state_dict(agent.state_dict() | stored.tensors)
    if wanted != found:
        raise UserError(
            f"'{source}' was made for {found[0]} observations and {found[1]} actions, the environment has {wanted[0]} "
            f"and {wanted[1]}"
        )
    return agent
