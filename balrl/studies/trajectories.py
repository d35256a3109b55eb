"""Many trajectories of one policy, in groups that begin in the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from balrl.envs import TorchVectorEnv
from balrl.errors import UserError
from balrl.rollout import Collector
from balrl.run.registry import make_env

if TYPE_CHECKING:
    from balrl.agent import Agent
    from balrl.studies.config import StudyConfig


class Trajectories(NamedTuple):
    """T steps of G groups of S trajectories: ``[T, G, S, …]``; `alive` is false after the end of an episode."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor


def make_worlds(config: StudyConfig, count: int) -> TorchVectorEnv:
    """Return `count` worlds of the study's task.

    Raises:
        UserError: for a task whose worlds cannot be put into a given state.
    """
    env = make_env(config.env, count, config.device, config.env_kwargs)
    if not isinstance(env, TorchVectorEnv):
        raise UserError(f"a study begins many worlds in one state, which {config.env} cannot; choose one of balrl/…")
    return env


@torch.no_grad()
def roll(config: StudyConfig, agent: Agent, groups: int, size: int, seed: int) -> Trajectories:
    """Run the agent's stochastic policy, unclipped as in training, from `groups` first states, `size` times each."""
    env = make_worlds(config, groups * size)
    collector = Collector(env, config.device, seed)
    agent.stream.reseed(seed)
    same = env.states[::size].repeat_interleave(size, 0)
    env.load_state_dict({**env.state_dict(), "states": same})
    collector.observations = env.observe(same)
    alive = torch.ones(groups * size, dtype=torch.bool, device=env.device)
    steps = []
    for _ in range(env.max_episode_steps):
        step = collector.step(agent.explore)
        steps.append((step.batch.observations, step.batch.actions.clamp(-1, 1), step.batch.rewards * alive, alive))
        alive = alive & ~step.done
    env.close()
    return Trajectories(*(torch.stack(x).unflatten(1, (groups, size)) for x in zip(*steps, strict=True)))
