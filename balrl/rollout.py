"""From a vector environment and a policy to replay. Autoreset and truncation are handled here, once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from balrl.batch import Batch
from balrl.chunks import Queue, play
from balrl.errors import EnvironmentFault, first_line
from balrl.spaces import SpaceAdapter, reward_dim

Policy = Callable[[Tensor], Tensor]
"""Maps observations ``[N, observation_dim]`` to actions ``[N, action_dim]``, which the task gets clipped to [-1, 1].

Or to several steps' at once, ``[N, chunk_size · action_dim]``, which are played one after another.
"""

ABORTED = "aborted"
"""In the info of a step that was none: its world failed, and its episode ends without being stored further."""
MISFITS = (ValueError, TypeError, RuntimeError, KeyError, IndexError)
FIELDS = ("observation", "reward")
"""What of a step must be finite."""
SUCCESS_KEYS = ("success", "is_success", "goal_achieved")


class Step(NamedTuple):
    """One vector step: what to store, and what it did to the running episodes.

    Attributes:
        batch: the transitions ``[N, …]``, rewards raw.
        valid: ``[N]`` bool, or None if every row is a transition (NEXT_STEP's reset rows are none, nor are steps in
            which a world failed).
        done: ``[N]`` bool, episodes that ended with this step.
        returns, lengths: ``[N]``, of the running episodes, this step included; returns ``[N, m]`` of m rewards.
        success: ``[N]`` bool, whether the task reported success in the episode so far; None if it reports none.
        success_now: the same for this step alone.
    """

    batch: Batch
    valid: Tensor | None
    done: Tensor
    returns: Tensor
    lengths: Tensor
    success: Tensor | None
    success_now: Tensor | None


class Collector:
    """Steps a `gymnasium.vector.VectorEnv` with a policy and yields transitions whose next observations are true.

    Where the last observation of an episode is depends on the environment's autoreset mode: SAME_STEP keeps it in
    ``infos["final_obs"]`` (per world, or dense as from torch environments), NEXT_STEP returns it and spends the
    following step on the reset, DISABLED returns it and is reset here. All three give the same transitions.

    Rewards are ``[N]``, or ``[N, m]`` from a task whose `reward_space` has the shape ``(m,)``.

    Args:
        env: numpy or torch environments.
        device: where the policy and its data live.
        seed: of the environments, used by the first reset.
    """

    waiting_since: ClassVar[dict[int, float]] = {}
    """When each call of an environment in this process began that has not returned, on the monotonic clock."""
    keeps_step: ClassVar[bool] = True
    """Whether the worlds stand where the collector does, so that their state is worth saving."""

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> None:
        self.env = env
        self.device = torch.device(device)
        self.spaces = SpaceAdapter(env.single_observation_space, env.single_action_space)
        self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.num_envs = env.num_envs
        self.reward_dim = reward_dim(env)
        self._takes_tensors = bool(env.metadata.get("tensors", False))
        self._staging = torch.empty(
            self.num_envs, self.spaces.observation_dim + self.reward_dim + 2, pin_memory=self.device.type == "cuda"
        )
        self.start(seed)

    def start(self, seed: int | None = None) -> None:
        """Begin new episodes in every world."""
        observations, _ = self._ask("reset", lambda: self.env.reset(seed=seed))
        try:
            self.observations = self.spaces.observations_to(observations, self.device)
            if self.observations.shape != (self.num_envs, self.spaces.observation_dim):
                raise ValueError(f"found shape {tuple(self.observations.shape)}")
        except MISFITS as error:
            raise self._not_as_said("reset", error) from error
        self._invalid = torch.zeros(len(FIELDS), self.num_envs, device=self.device)
        self._note(self.observations, self._invalid[0])
        self.returns = torch.zeros(self._rewards_shape, dtype=torch.float64, device=self.device)
        self.lengths = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self.success = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self.reports_success = False
        self._ended = torch.zeros(3 + self.reward_dim, dtype=torch.float64, device=self.device)
        self._resetting = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self._finished = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self._chunks, self._position = Queue.empty(self.num_envs, self.device)

    def step(self, policy: Policy) -> Step:
        """Take one step in every world."""
        fresh = self._finished
        self.returns = torch.where(self._per_reward(fresh), 0.0, self.returns)
        self.lengths = torch.where(fresh, 0, self.lengths)
        self.success = self.success & ~fresh

        observations = self.observations
        actions, queue, raw = self._advance(policy)
        raw_observations, raw_rewards, raw_terminated, raw_truncated, infos = raw
        receive = self._receive_tensors if self._takes_tensors else self._receive
        try:
            following, rewards, terminated, truncated = receive(
                raw_observations, raw_rewards, raw_terminated, raw_truncated
            )
        except MISFITS as error:
            raise self._not_as_said("step", error) from error
        done = terminated | truncated

        last, valid = following, None
        if self.mode == AutoresetMode.SAME_STEP and self._takes_tensors:
            last = self.spaces.observations_to(infos["final_obs"], self.device)
        elif self.mode == AutoresetMode.SAME_STEP:
            last = self._final_observations(infos, following, raw_terminated | raw_truncated)
        elif self.mode == AutoresetMode.NEXT_STEP:
            valid, self._resetting = ~self._resetting, done
        elif (raw_terminated | raw_truncated).any():
            raw_observations, _ = self.env.reset(options={"reset_mask": raw_terminated | raw_truncated})
            following = self.spaces.observations_to(raw_observations, self.device)

        if self._takes_tensors:
            if rewards.shape != self._rewards_shape:
                raise self._not_as_said("step", ValueError(f"found rewards of shape {tuple(rewards.shape)}"))
            self._note(last, rewards)
        aborted = self._aborted(infos)
        if aborted is not None:
            valid = ~aborted if valid is None else valid & ~aborted

        self.observations = following
        self.returns = self.returns + rewards * (1 if valid is None else self._per_reward(valid))
        self.lengths = self.lengths + (1 if valid is None else valid)
        success_now = self._success_of_step(infos, done)
        self.success = self.success | success_now
        self._finished = done
        self._chunks, self._position = queue.over(done if valid is None else done | ~valid)
        batch = Batch(observations, actions, rewards, last, terminated)
        success = (self.success, success_now) if self.reports_success else (None, None)
        ended = done if aborted is None else done & ~aborted
        returns = torch.where(self._per_reward(ended), self.returns, 0.0)
        each = [returns] if self.reward_dim == 1 else returns.unbind(-1)
        self._ended = self._ended + torch.stack([ended, *each, self.lengths * ended, self.success & ended]).sum(-1)
        return Step(batch, valid, done, self.returns, self.lengths, *success)

    @property
    def _rewards_shape(self) -> tuple[int, ...]:
        return (self.num_envs,) if self.reward_dim == 1 else (self.num_envs, self.reward_dim)

    def _per_reward(self, flags: Tensor) -> Tensor:
        """Return flags ``[N]`` in a shape that goes with rewards."""
        return flags if self.reward_dim == 1 else flags.unsqueeze(-1)

    def _advance(self, policy: Policy) -> tuple[Tensor, Queue, Any]:
        """Return the actions ``[N, action_dim]`` of a step, what is left to be played, and the environment's answer."""
        queue = Queue(self._chunks, self._position)
        actions, queue = play(policy, self.observations, queue, self.spaces.action_dim)
        taken = self._for_environment(actions.clamp(-1, 1))
        return actions, queue, self._ask("step", lambda: self.env.step(taken))

    def pop_ended(self) -> dict[str, float]:
        """Return mean return, length and, where it is reported, success of the episodes that ended since the last call.

        Nothing if none did. Until somebody asks, their sums stay on the device.
        """
        count, *sums, invalid = torch.cat([self._ended, self._invalid.sum().double().reshape(1)]).tolist()
        if math.isnan(invalid):
            self.check()
        self._ended = torch.zeros_like(self._ended)
        if not count:
            return {}
        each = ["return"] if self.reward_dim == 1 else [f"return_{i + 1}" for i in range(self.reward_dim)]
        names = [*each, "length", "success"] if self.reports_success else [*each, "length"]
        return {name: value / count for name, value in zip(names, sums, strict=False)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running episodes' tensors; the environment's own state is separate."""
        return {
            "observations": self.observations,
            "returns": self.returns,
            "lengths": self.lengths,
            "success": self.success,
            "resetting": self._resetting,
            "finished": self._finished,
            "ended": self._ended,
            "chunks": self._chunks,
            "position": self._position,
            "reports_success": torch.tensor(self.reports_success),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the running episodes of `state_dict`, the environment having been put back into theirs."""
        self.observations = state["observations"].to(self.device)
        self.returns = state["returns"].to(self.device)
        self.lengths = state["lengths"].to(self.device)
        self.success = state["success"].to(self.device)
        self._resetting = state["resetting"].to(self.device)
        self._finished = state["finished"].to(self.device)
        self._ended = state["ended"].to(self.device)
        if "chunks" in state:  # which older checkpoints have not
            self._chunks, self._position = state["chunks"].to(self.device), state["position"].to(self.device)
        self.reports_success = bool(state["reports_success"])

    def check(self) -> None:
        """Ask the device whether every observation and reward so far was finite.

        Raises:
            EnvironmentFault: when one was not, naming the world. Worlds that give numpy arrays are asked at every step.
        """
        invalid = self._invalid.isnan()
        if bool(invalid.any()):
            field, world = invalid.nonzero()[0].tolist()
            raise _not_finite(world, FIELDS[field])

    def _note(self, observations: Tensor, rewards: Tensor) -> None:
        """Remember on the device which worlds returned NaN or infinity: nobody waits for the answer until `check`.

        Nothing times a number is nothing, and times anything else it is NaN, which stays in a sum.
        """
        nothing = rewards * 0 if rewards.dim() == 1 else (rewards * 0).sum(-1)
        self._invalid = self._invalid + torch.stack([(observations * 0).sum(-1), nothing])

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        """Return what the environment answers; while it has not, `waiting_since` says how long that takes."""
        self.waiting_since[id(self)] = time.monotonic()
        try:
            return call()
        except EnvironmentFault:
            raise
        except Exception as error:
            if self._takes_tensors:
                raise  # ours, on a device that may have refused
            raise EnvironmentFault(f"{what}() raised {type(error).__name__}: {first_line(error)}") from error
        finally:
            del self.waiting_since[id(self)]

    def _not_as_said(self, what: str, error: Exception) -> EnvironmentFault:
        expected = f"expected {self.num_envs} observations of {self.spaces.observation_dim} numbers"
        return EnvironmentFault(f"{what}() returned something else than its spaces say, {expected}: {error}")

    def _aborted(self, infos: Mapping[str, Any]) -> Tensor | None:
        flags = next(
            (i[ABORTED] for i in (infos.get("final_info"), infos) if isinstance(i, Mapping) and ABORTED in i), None
        )
        return None if flags is None else self._tensor(np.asarray(flags, bool), torch.bool)

    def _for_environment(self, actions: Tensor) -> Any:
        actions = self.spaces.to_environment(actions)
        if self._takes_tensors:
            return actions
        return actions.cpu().numpy().astype(self.env.single_action_space.dtype)

    def _tensor(self, values: Any, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values).to(device=self.device, dtype=dtype)

    def _receive_tensors(self, observations: Any, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kinds = (torch.float32, torch.bool, torch.bool)
        rewards, terminated, truncated = (self._tensor(x, kind) for x, kind in zip(rest, kinds, strict=True))
        return self.spaces.observations_to(observations, self.device), rewards, terminated, truncated

    def _receive(self, observations: Any, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bring what a step of numpy arrays returned to the device in one transfer, from page-locked memory on a GPU.

        Asking for the next actions waits for it, so that the memory is free again by the next step.
        """
        width = self.spaces.observation_dim
        first = width + self.reward_dim
        of_rewards: Any = width if self.reward_dim == 1 else slice(width, first)
        rewards, *flags = rest
        self._staging[:, :width] = _shaped(self.spaces.flatten(observations), (self.num_envs, width))
        self._staging[:, of_rewards] = _shaped(rewards, self._rewards_shape)
        for column, values in enumerate(flags):
            self._staging[:, first + column] = _shaped(values, (self.num_envs,))
        if not math.isfinite(self._staging.sum()):
            finite = self._staging.isfinite()
            for world, row in enumerate(finite):
                if not bool(row.all()):
                    raise _not_finite(world, FIELDS[int(bool(row[:width].all()))])
        arrived = self._staging.to(self.device, non_blocking=True, copy=True)
        terminated, truncated = arrived[:, first:].unbind(-1)
        return arrived[:, :width].contiguous(), arrived[:, of_rewards], terminated.bool(), truncated.bool()

    def _final_observations(self, infos: Mapping[str, Any], following: Tensor, done: Any) -> Tensor:
        final, ended = infos.get("final_obs"), np.flatnonzero(done)
        if final is None or not len(ended):
            return following
        flat = [self.spaces.flatten(_row(final, int(i))) for i in ended]
        if not all(np.isfinite(row).all() for row in flat):
            world = next(int(i) for i, row in zip(ended, flat, strict=True) if not np.isfinite(row).all())
            raise _not_finite(world, "final observation")
        last = following.clone()
        last[torch.from_numpy(ended).to(self.device)] = self.spaces.observations_to(np.stack(flat), self.device)
        return last

    def _success_of_step(self, infos: Mapping[str, Any], done: Tensor) -> Tensor:
        now = torch.zeros_like(done)
        running, ended = self._success_in(infos), self._success_in(infos.get("final_info"))
        if running is not None and self.mode == AutoresetMode.SAME_STEP and not self._takes_tensors:
            running = running & ~done  # Gymnasium's: where an episode ended, this is already the new one's
        for flags in (running, ended):
            if flags is not None:
                self.reports_success = True
                now = now | flags
        return now

    def _success_in(self, source: Any) -> Tensor | None:
        key = next((k for k in SUCCESS_KEYS if k in source), None) if isinstance(source, Mapping) else None
        if key is None:
            return None
        values = source[key]
        return self._tensor(values if isinstance(values, Tensor) else np.asarray(values, bool), torch.bool)


def _shaped(values: Any, shape: tuple[int, ...]) -> Tensor:
    """Return an array as a tensor; one of another shape would be spread out."""
    found = torch.from_numpy(np.asarray(values))
    if tuple(found.shape) != shape:
        raise ValueError(f"found shape {tuple(found.shape)}, expected {shape}")
    return found


def _not_finite(world: int, field: str) -> EnvironmentFault:
    return EnvironmentFault(f"world {world}: its {field} is NaN or infinite, expected finite numbers")


def _row(observations: Any, index: int) -> Any:
    """Return one world's observation out of all worlds'."""
    if isinstance(observations, Mapping):
        return {key: _row(value, index) for key, value in observations.items()}
    return observations[index]
