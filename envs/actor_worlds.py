"""What lives in an actor: some worlds that step when they are asked to, or ahead with a frozen policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from balrl.errors import UserError
from balrl.frozen_policy import FrozenPolicy
from balrl.random_stream import RandomStream
from balrl.rollout import ABORTED, SUCCESS_KEYS
from balrl.spaces import SpaceAdapter

Array = NDArray[Any]
Make = Callable[[int], gym.vector.VectorEnv[Any, Any, Any]]
"""Returns so many worlds."""
FLAGS = (*SUCCESS_KEYS, ABORTED)


class Stepped(NamedTuple):
    """What an actor answers to a step.

    Attributes:
        observations: after the step, of the new episode where one ended.
        rewards, terminated, truncated: ``[worlds]``; rewards ``[worlds, m]`` of m.
        last: the true last observation of every world whose episode ended.
        running, ended: flags that the worlds report, while an episode goes on and where it ended.
    """

    observations: Any
    rewards: Array
    terminated: Array
    truncated: Array
    last: dict[int, Any]
    running: dict[str, Array]
    ended: dict[str, Array]


class Explorer(NamedTuple):
    """What acts in an actor that runs ahead: a frozen policy, and the noise that its agent explores with."""

    policy: FrozenPolicy
    noise: float

    def act(self, observations: Tensor, stream: RandomStream) -> Tensor:
        """Return actions ``[B, action_dim]`` as `Agent.explore` does."""
        actions = self.policy.act(observations, deterministic=False, stream=stream)
        if not self.noise:
            return actions
        return (actions + self.noise * stream.normal(*actions.shape, dtype=actions.dtype)).clamp(-1, 1)


class Tag(NamedTuple):
    """Which chunk it is: the actor's number, the chunk's among its own, and the vector step that its policy is of."""

    worker: int
    sequence: int
    version: int


class Chunk(NamedTuple):
    """Steps that an actor took by itself: actions ``[worlds, action_dim]`` and what came of them."""

    tag: Tag
    steps: list[tuple[Array, Stepped]]


class Worlds:
    """What lives in an actor: some worlds, spoken to in numpy.

    Args:
        make: returns worlds with SAME_STEP autoreset.
        count: how many.
        modules: to import first, such as one that registers the task.
    """

    def __init__(self, make: Make, count: int, modules: Sequence[str] = ()) -> None:
        for name in modules:
            __import__(name)
        torch.set_num_threads(1)
        self.env = make(count)
        self.spaces = SpaceAdapter(self.env.single_observation_space, self.env.single_action_space)
        self.stream = RandomStream(0)
        self.observations: Any = None
        mode = AutoresetMode(self.env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if mode != AutoresetMode.SAME_STEP:
            raise UserError(f"worlds in actors need SAME_STEP autoreset, these have {mode.value}")

    def describe(self) -> dict[str, Any]:
        """Return what can be known of the worlds from outside."""
        worlds = getattr(self.env.unwrapped, "envs", None)
        limit = getattr(self.env.unwrapped, "max_episode_steps", None)
        if limit is None and worlds:
            from balrl.envs.gymnasium_env import time_limit

            limit = time_limit(worlds[0])
        return {
            "observation_space": self.env.single_observation_space,
            "action_space": self.env.single_action_space,
            "spec": self.env.spec,
            "max_episode_steps": limit,
            "reference_returns": getattr(self.env, "reference_returns", None),
            "reward_space": getattr(self.env.unwrapped, "reward_space", None),
            "saves": hasattr(self.env, "state_dict"),
        }

    def reset(self, seed: int | None, own: int) -> Any:
        """Begin new episodes, and return the first observations; `own` seeds what the actor itself draws."""
        self.observations = _numpy(self.env.reset(seed=seed)[0])
        self.stream.reseed(own)
        return self.observations

    def step(self, actions: Array) -> Stepped:
        """Take one step in every world."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        done = np.asarray(_numpy(terminated) | _numpy(truncated), bool)
        dense = bool(
            self.env.metadata.get("tensors")
        )  # whose infos are of the step itself, also where an episode ended
        final = _numpy(infos["final_obs"]) if "final_obs" in infos else None
        at_end = infos if dense else infos.get("final_info", {})
        self.observations = _numpy(observations)
        return Stepped(
            self.observations,
            _numpy(rewards),
            _numpy(terminated),
            _numpy(truncated),
            {} if final is None else {world: row(final, world) for world in np.flatnonzero(done).tolist()},
            {key: np.asarray(_numpy(infos[key]), bool) for key in FLAGS if key in infos},
            {key: np.asarray(_numpy(at_end[key]), bool) & done for key in FLAGS if key in at_end},
        )

    @torch.no_grad()
    def collect(self, policy: Explorer | None, steps: int, tag: Tag) -> Chunk:
        """Take steps with a policy; uniform actions without one.

        Args:
            policy: as it was at ``tag.version``.
            steps: how many.
            tag: handed back.
        """
        taken = []
        for _ in range(steps):
            seen = self.spaces.observations_to(self.observations, torch.device("cpu"))
            if policy is None:
                actions = 2 * self.stream.uniform(len(seen), self.spaces.action_dim) - 1
            else:
                actions = policy.act(seen, self.stream)
            sent = self.spaces.to_environment(actions.clamp(-1, 1))
            sent = sent if self.env.metadata.get("tensors") else sent.numpy().astype(self.spaces.action_space.dtype)
            taken.append((actions.numpy(), self.step(sent)))
        return Chunk(tag, taken)

    def state(self) -> dict[str, Array]:
        """Return everything that the next step depends on."""
        found: dict[str, Array] = _numpy(self.env.state_dict())  # type: ignore[attr-defined]
        return found

    def load(self, state: Mapping[str, Array]) -> None:
        """Put the worlds back into a state."""
        tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
        self.env.load_state_dict(tensors)  # type: ignore[attr-defined]


def _numpy(value: Any) -> Any:
    """Return tensors as arrays, also within a mapping; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: _numpy(part) for key, part in value.items()}
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def row(observations: Any, world: int) -> Any:
    """Return one world's observation."""
    if isinstance(observations, Mapping):
        return {key: row(part, world) for key, part in observations.items()}
    return observations[world]
