"""Gymnasium's MuJoCo tasks, thousands of worlds at once, on a GPU or a CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.mujoco_tasks import TASKS
from balrl.envs.torch_env import Frame, TorchVectorEnv
from balrl.envs.warp_physics import WarpPhysics

STATE_LIMIT = 1e10
"""MuJoCo's own limit of positions, velocities and accelerations."""


class _State(NamedTuple):
    """The columns of a state: what the next step depends on, what the last one left to observe, and the way so far."""

    qpos: Tensor
    qvel: Tensor
    warm_start: Tensor
    memory: Tensor
    features: Tensor
    travelled: Tensor


class MujocoVectorEnv(TorchVectorEnv):
    """A Gymnasium MuJoCo task in N worlds, simulated by MuJoCo Warp with Gymnasium's own model.

    Observations, rewards, terminations, reset noise and time limit are those of Gymnasium's version 5 with its default
    settings, in float32. Where a world's state becomes infinite or not a number, its episode is truncated and the world
    starts anew: the step's next observation is the one before it, its reward 0, and ``infos["diverged"]`` is true.
    Tasks that roam give ``infos["travelled"]``, the way from where the episode began.

    Args:
        num_envs: N.
        task: Gymnasium's id, one of `balrl.envs.mujoco_tasks.TASKS`.
        device: ``cpu`` or a CUDA device.
        graph: record the simulator's kernels once and replay them; off, they are launched one by one.
        check_overflow: ask after every step whether the simulator's buffers sufficed, and raise if not; slow.

    Raises:
        UserError: where MuJoCo Warp is not installed.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "Hopper-v5",
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        graph: bool = True,
        check_overflow: bool = False,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task is {task!r}, expected one of {sorted(TASKS)}")
        import mujoco

        made = gym.make(task)
        original: Any = made.unwrapped
        limit = made.spec.max_episode_steps if made.spec is not None else None
        observations, actions = original.observation_space, original.action_space
        if TASKS[task].newton:
            original.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        super().__init__(
            num_envs,
            _single_precision(observations),
            _single_precision(actions),
            (limit or 1000) if max_episode_steps is None else max_episode_steps,
            device,
        )
        self.task_id, self.task, self.dt = task, TASKS[task], float(original.dt)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}
        self._camera: gym.Env[Any, Any] | None = None
        self._physics = WarpPhysics(
            original.model,
            num_envs,
            self.device,
            original.frame_skip,
            self.task.contact_forces,
            self.task.located,
            graph,
        )
        self._check_overflow = check_overflow
        self._initial = [
            torch.from_numpy(x).to(self.device, self.dtype) for x in (original.init_qpos, original.init_qvel)
        ]
        made.close()
        views = self._physics.views
        self._sizes = [
            views["qpos"].shape[1],
            views["qvel"].shape[1],
            views["qacc_warmstart"].shape[1],
            self.task.memory(views).shape[1],
            self.task.features(views).shape[1],
            self.task.roaming,
        ]

    def initial_states(self, count: int) -> Tensor:
        def uniform(width: int) -> Tensor:
            return 2 * torch.rand(count, width, generator=self.generator, device=self.device, dtype=self.dtype) - 1

        def normal(width: int) -> Tensor:
            return torch.randn(count, width, generator=self.generator, device=self.device, dtype=self.dtype)

        task, views = self.task, self._physics.views
        qpos, qvel = task.begin(self._initial[0], self._initial[1], uniform, normal)
        qpos[:, : task.roaming] = 0
        first = [qpos, qvel, *(torch.zeros(count, n, device=self.device, dtype=self.dtype) for n in self._sizes[2:])]
        if task.located:
            views["qpos"].copy_(qpos)
            views["qvel"].copy_(qvel)
            self._physics.locate()
            first[3:5] = task.memory(views), task.features(views)
        return torch.cat(first, -1)

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        views, task = self._physics.views, self.task
        before = self._split(states)
        views["qpos"].copy_(before.qpos)
        views["qvel"].copy_(before.qvel)
        views["qacc_warmstart"].copy_(before.warm_start)
        views["ctrl"].copy_(actions)
        self._physics.advance()
        if self._check_overflow:
            self._physics.check_overflow()
        rewards, terminated = task.outcome(before.memory, views, actions, self.dt)
        moved = views["qpos"].clone()
        moved[:, : task.roaming] = 0
        after = _State(
            moved,
            views["qvel"],
            views["qacc_warmstart"],
            task.memory(views),
            task.features(views),
            before.travelled + views["qpos"][:, : task.roaming],
        )
        following = torch.cat(after, -1)
        diverged = ~(following.abs() < STATE_LIMIT).all(-1)
        following = torch.where(diverged.unsqueeze(-1), states, following)
        infos = {"diverged": diverged}
        if task.roaming:
            infos["travelled"] = after.travelled
        return following, rewards.masked_fill(diverged, 0), terminated & ~diverged, infos

    def observe(self, states: Tensor) -> Tensor:
        state = self._split(states)
        return self.task.observe(state.qpos, state.qvel, state.features)

    def draw(self, state: Tensor) -> Frame:
        """Return what Gymnasium's camera sees of a state, with the world where the episode has come to."""
        if self._camera is None:
            self._camera = gym.make(self.task_id, render_mode="rgb_array")
            self._camera.reset()
        parts = self._split(state)
        qpos = parts.qpos.double().cpu().numpy().copy()
        qpos[: self.task.roaming] += parts.travelled.double().cpu().numpy()
        original: Any = self._camera.unwrapped
        original.set_state(qpos, parts.qvel.double().cpu().numpy())
        return np.asarray(self._camera.render(), np.uint8)

    def close(self, **_: Any) -> None:
        if self._camera is not None:
            self._camera.close()

    def _split(self, states: Tensor) -> _State:
        return _State(*states.split(self._sizes, -1))


def _single_precision(space: gym.spaces.Box) -> gym.spaces.Box:
    return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


make_mujoco = MujocoVectorEnv.single
