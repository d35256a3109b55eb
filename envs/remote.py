"""Worlds on other machines: a vector environment whose worlds live in Ray actors, one message each way per step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from balrl.envs.actor_worlds import Array, Chunk, Explorer, Make, Stepped, Tag, Worlds, row
from balrl.envs.checked import MOST_IN_A_ROW
from balrl.errors import EnvironmentFault, UserError, last_line
from balrl.ray_cluster import connect, import_ray
from balrl.rollout import ABORTED

PLACEMENT = 120.0
"""Seconds until every actor must have found a machine and made its worlds."""


class RemoteVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """A vector environment whose worlds live in Ray actors; autoreset is SAME_STEP.

    World i is seeded with `seed` + i, wherever it lives. An actor that dies with its machine is replaced: the episodes
    of its worlds count as aborted, neither terminated nor truncated in any replay, and new ones begin. Where the worlds
    can save their state, it has `state_dict` and `load_state_dict`, and a run goes on bit for bit with as many actors.

    Args:
        make: returns so many worlds; Ray carries it to the machines.
        num_envs: worlds in all.
        actors: that share them, each with as many as the others or one more.
        address: of the cluster; None: one on this machine.
        cpus: of an actor; fractions share a core.
        modules: that actors import first.
    """

    open_envs: ClassVar[int] = 0
    """How many of them use a cluster that this process has started."""
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        make: Make,
        num_envs: int,
        actors: int,
        address: str | None = None,
        cpus: float = 1.0,
        modules: Sequence[str] = (),
    ) -> None:
        self._ray = import_ray("environment.executor=ray")
        self._owns = connect(self._ray, address) or RemoteVectorEnv.open_envs > 0
        RemoteVectorEnv.open_envs += self._owns
        self.num_envs, self.restarts = num_envs, 0
        bounds = np.linspace(0, num_envs, min(actors, num_envs) + 1).astype(int)
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
        remote = self._ray.remote(num_cpus=cpus, max_restarts=0)(Worlds)
        self._start = lambda part: remote.remote(make, part.stop - part.start, tuple(modules))
        self._actors = [self._start(part) for part in self._slices]
        self._seed, self._in_a_row = 0, 0
        self._observations: list[Any] = [None] * len(self._slices)
        try:
            known = self._described(cpus)
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space = known["observation_space"], known["action_space"]
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.spec, self.max_episode_steps = known["spec"], known["max_episode_steps"]
        self.reference_returns, self.reward_space = known["reference_returns"], known["reward_space"]
        if known["saves"]:
            self.state_dict, self.load_state_dict = self._state_dict, self._load_state_dict

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in every world."""
        if seed is not None:
            self._seed = seed
        seeds = [None if seed is None else seed + part.start for part in self._slices]
        draws = np.random.SeedSequence(seed)  # of a resumed run, new ones
        own = [int(draw) for draw in draws.generate_state(len(seeds))]
        asked = [actor.reset.remote(*both) for actor, *both in zip(self._actors, seeds, own, strict=True)]
        for index, reference in enumerate(asked):
            found = self._answer(index, reference)
            self._observations[index] = self._replace(index) if found is None else found
        return _joined(self._observations), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take one step in every world: one message to every actor, one back."""
        asked = [actor.step.remote(actions[part]) for actor, part in zip(self._actors, self._slices, strict=True)]
        answers = [self._answer(index, reference) for index, reference in enumerate(asked)]
        if all(answer is not None for answer in answers):
            self._in_a_row = 0
        return self.merged([self.lost(index) if answer is None else answer for index, answer in enumerate(answers)])

    def merged(self, steps: Sequence[Stepped]) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Return the actors' steps as one vector step."""
        self._observations = [step.observations for step in steps]
        return (
            _joined(self._observations),
            np.concatenate([step.rewards for step in steps]),
            np.concatenate([step.terminated for step in steps]),
            np.concatenate([step.truncated for step in steps]),
            self._infos(steps),
        )

    def close(self, **_: Any) -> None:
        """End the actors, and the cluster if this process has started it and nobody else here uses it."""
        if not self._actors:
            return
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        RemoteVectorEnv.open_envs -= self._owns
        if self._owns and RemoteVectorEnv.open_envs == 0:
            self._ray.shutdown()

    def _infos(self, steps: Sequence[Stepped]) -> dict[str, Any]:
        """Return infos as Gymnasium's own vector environments give them."""
        infos: dict[str, Any] = {}
        if any(step.last for step in steps):
            last = np.full(self.num_envs, None, dtype=object)
            for part, step in zip(self._slices, steps, strict=True):
                for world, observation in step.last.items():
                    last[part.start + world] = observation
            infos["final_obs"] = last
        for place, flags in (("running", infos), ("ended", infos.setdefault("final_info", {}))):
            for key in {key for step in steps for key in getattr(step, place)}:
                parts = [getattr(step, place).get(key) for step in steps]
                flags[key] = np.concatenate(
                    [np.zeros(len(s.rewards), bool) if p is None else p for p, s in zip(parts, steps, strict=True)]
                )
        return infos

    def _answer(self, index: int, reference: Any) -> Any:
        """Return what an actor answers; None if it is gone."""
        try:
            return self._ray.get(reference)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error, f"actor {index}") from error

    def _described(self, cpus: float) -> dict[str, Any]:
        """Return what is known of the worlds, when every actor has its own."""
        asked = [actor.describe.remote() for actor in self._actors]
        ready, waiting = self._ray.wait(asked, num_returns=len(asked), timeout=PLACEMENT)
        found: dict[str, Any] = self._get(ready[0]) if ready else {}
        if waiting:
            cores = self._ray.cluster_resources().get("CPU", 0)
            raise UserError(
                f"{len(waiting)} of {len(asked)} actors found no room within {PLACEMENT:.0f} seconds: each needs "
                f"{cpus:g} cores, the cluster has {cores:g}, and evaluation has actors of its own; lower "
                "environment.actors or environment.actor_cpus"
            )
        return found

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            if error.__cause__ is not None or "init" in str(error):
                raise UserError(f"the worlds of an actor cannot be made: {last_line(error)}") from error
            raise UserError(f"an actor ended before it had worlds: {last_line(error)}") from error
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error, "an actor") from error

    def collect(self, index: int, policy: Any, steps: int, tag: Tag) -> Any:
        """Let an actor run ahead, and return its chunk's reference; `policy` is one, a reference to one, or None."""
        return self._actors[index].collect.remote(policy, steps, tag)

    def chunk(self, index: int, reference: Any) -> Chunk | None:
        """Wait for an actor's chunk; None if the actor is gone."""
        found: Chunk | None = self._answer(index, reference)
        if found is not None:
            self._in_a_row = 0
        return found

    def put(self, policy: Explorer | None) -> Any:
        """Return a reference under which every actor finds a policy, carried to each machine once."""
        return None if policy is None else self._ray.put(policy)

    @property
    def parts(self) -> list[slice]:
        """Which worlds every actor has."""
        return self._slices

    def lost(self, index: int) -> Stepped:
        """Return a step in which an actor was lost: every episode of its worlds ends there, as none of a task does."""
        before, part = self._observations[index], self._slices[index]
        count = part.stop - part.start
        last = {world: row(before, world) for world in range(count)}
        rewards = np.zeros((count, *(() if self.reward_space is None else self.reward_space.shape)))
        no, yes = np.zeros(count, bool), np.ones(count, bool)
        return Stepped(self._replace(index), rewards, no, yes, last, {}, {ABORTED: yes})

    def _replace(self, index: int) -> Any:
        """Start another actor in the place of one that is gone, and return its worlds' first observations."""
        self.restarts += 1
        self._in_a_row += 1
        part = self._slices[index]
        if self._in_a_row > MOST_IN_A_ROW:
            raise self._given_up()
        warnings.warn(
            f"the actor of worlds {part.start} to {part.stop - 1} was lost and is replaced; their episodes are aborted",
            stacklevel=4,
        )
        seed = int(np.random.SeedSequence([self._seed, part.start, self.restarts]).generate_state(1)[0]) >> 1
        while True:
            self._actors[index] = self._start(part)
            found = self._answer(index, self._actors[index].reset.remote(seed, seed))
            if found is not None:
                return found
            self._in_a_row += 1
            if self._in_a_row > MOST_IN_A_ROW:
                raise self._given_up()

    def _given_up(self) -> EnvironmentFault:
        return EnvironmentFault(f"actors were lost {MOST_IN_A_ROW} times in a row, with no step between them")

    def _state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, of every actor; nothing if one was lost since the last step.

        A run that is resumed from nothing begins new episodes.
        """
        asked = [actor.state.remote() for actor in self._actors]
        states = [self._answer(index, reference) for index, reference in enumerate(asked)]
        if any(state is None for state in states):
            return {}
        return {
            f"{index}.{key}": torch.from_numpy(np.array(value))
            for index, state in enumerate(states)
            for key, value in state.items()
        }

    def _load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        asked = []
        for index, actor in enumerate(self._actors):
            prefix = f"{index}."
            own = {k.removeprefix(prefix): v.cpu().numpy() for k, v in state.items() if k.startswith(prefix)}
            asked.append(actor.load.remote(own))
        for reference in asked:
            self._get(reference)


def _joined(parts: Sequence[Any]) -> Any:
    """Return the worlds' observations one behind another."""
    if isinstance(parts[0], Mapping):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def _cause(error: Any, who: str) -> Exception:
    """Return what a world raised in an actor, as it would have been here."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else EnvironmentFault(f"{who}: {last_line(error)}")
