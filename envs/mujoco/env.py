"""Gymnasium's MuJoCo tasks, thousands of worlds at once, on a GPU or a CPU."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.mujoco.physics import WarpPhysics
from balrl.envs.mujoco.task import Beginning, State
from balrl.envs.mujoco.tasks import TASKS
from balrl.envs.robotics import register_robotics
from balrl.envs.torch_env import Frame, TorchVectorEnv
from balrl.errors import UserError
from balrl.spaces import SpaceAdapter

STATE_LIMIT = 1e10
"""MuJoCo's own limit of positions, velocities and accelerations."""


class MujocoVectorEnv(TorchVectorEnv):
    """A MuJoCo task of Gymnasium or gymnasium-robotics in N worlds, simulated by MuJoCo Warp with the original's model.

    Observations, rewards, terminations, reset noise and time limit are the original's with its default settings, in
    float32; goal dictionaries are flattened as `balrl.spaces.SpaceAdapter` does. Where a world's state becomes infinite
    or not a number, its episode is truncated and the world starts anew: the step's next observation is the one before
    it, its reward 0, and ``infos["diverged"]`` is true. Tasks that roam give ``infos["travelled"]``, the way from where
    the episode began.

    Args:
        num_envs: N.
        task: the original's id, one of `balrl.envs.mujoco.tasks.TASKS`.
        device: ``cpu`` or a CUDA device.
        graph: record the simulator's kernels once and replay them; off, they are launched one by one.
        check_overflow: ask after every step whether the simulator's buffers sufficed, and raise if not; slow.
        solver_iterations: at most, of the constraint solver, which goes on until the slowest world has converged; fewer
            are faster and less exact. Default: the model's.
        line_search_steps: at most, in each of them; default: the model's.
        render_mode: None or ``rgb_array``; `render` draws either way.

    Raises:
        UserError: where MuJoCo Warp, or the package of the task, is not installed.
    """

    is_capturable = False
    """The simulator replays graphs of its own."""

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "Hopper-v5",
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        graph: bool = True,
        check_overflow: bool = False,
        render_mode: str | None = None,
        solver_iterations: int | None = None,
        line_search_steps: int | None = None,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task is {task!r}, expected one of {sorted(TASKS)}")
        for name, value in (("solver_iterations", solver_iterations), ("line_search_steps", line_search_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        import mujoco

        made = _make_original(task)
        original, limit = _simulated(made), made.spec.max_episode_steps if made.spec is not None else None
        if TASKS[task].newton:
            original.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        original.model.opt.iterations = solver_iterations or original.model.opt.iterations
        original.model.opt.ls_iterations = line_search_steps or original.model.opt.ls_iterations
        super().__init__(
            num_envs,
            _observations(made),
            _single_precision(original.action_space),
            (limit or 1000) if max_episode_steps is None else max_episode_steps,
            device=device,
            render_mode=render_mode,
        )
        self.task_id, self.task = task, TASKS[task].bound(made.unwrapped, self.device)
        self.dt = float(original.dt)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}
        self._camera: gym.Env[Any, Any] | None = None
        self._physics = WarpPhysics(
            original.model,
            num_envs,
            self.device,
            original.frame_skip,
            contact_forces=self.task.contact_forces,
            locates=self.task.located,
            graph=graph,
        )
        self._check_overflow = check_overflow
        self._initial = [
            torch.from_numpy(x).to(self.device, self.dtype) for x in (original.init_qpos, original.init_qvel)
        ]
        made.close()
        views = self._physics.views
        parts = (
            views["qpos"],
            views["qvel"],
            views["qacc_warmstart"],
            self.task.memory(views),
            self.task.features(views),
        )
        goal = self._begin(num_envs).goal
        self._sizes = [*(x.shape[1] for x in parts), self.task.roaming, 0 if goal is None else goal.shape[1]]

    def _begin(self, count: int) -> Beginning:
        def uniform(width: int) -> Tensor:
            return 2 * torch.rand(count, width, generator=self.generator, device=self.device, dtype=self.dtype) - 1

        def normal(width: int) -> Tensor:
            return torch.randn(count, width, generator=self.generator, device=self.device, dtype=self.dtype)

        return self.task.begin(self._initial[0], self._initial[1], uniform, normal)

    def initial_states(self, count: int) -> Tensor:
        task, views = self.task, self._physics.views
        qpos, qvel, goal = self._begin(count)
        qpos[:, : task.roaming] = 0
        zeros = (torch.zeros(count, n, device=self.device, dtype=self.dtype) for n in self._sizes[2:])
        first = State(qpos, qvel, *zeros)
        if goal is not None:
            first = first._replace(goal=goal)
        if task.located:
            views["qpos"].copy_(qpos)
            views["qvel"].copy_(qvel)
            self._physics.locate()
            first = first._replace(memory=task.memory(views), features=task.features(views))
        return torch.cat(first, -1)

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        views, task = self._physics.views, self.task
        before = self._split(states)
        views["qpos"].copy_(before.qpos)
        limit = task.speed_limit
        views["qvel"].copy_(before.qvel if limit is None else before.qvel.clamp(-limit, limit))
        views["qacc_warmstart"].copy_(before.warm_start)
        views["ctrl"].copy_(actions)
        self._physics.advance()
        if self._check_overflow:
            self._physics.check_overflow()
        rewards, terminated = task.outcome(before, views, actions, self.dt)
        moved = views["qpos"].clone()
        moved[:, : task.roaming] = 0
        after = State(
            moved,
            views["qvel"],
            views["qacc_warmstart"],
            task.memory(views),
            task.features(views),
            before.travelled + views["qpos"][:, : task.roaming],
            before.goal,
        )
        following = torch.cat(after, -1)
        diverged = ~(following.abs() < STATE_LIMIT).all(-1)
        following = torch.where(diverged.unsqueeze(-1), states, following)
        infos = {"diverged": diverged}
        if task.roaming:
            infos["travelled"] = after.travelled
        success = task.success(before, views)
        if success is not None:
            infos["success"] = success & ~diverged
        return following, rewards.masked_fill(diverged, 0), terminated & ~diverged, infos

    def observe(self, states: Tensor) -> Tensor:
        return self.task.observe(self._split(states))

    def draw(self, state: Tensor) -> Frame:
        """Return what Gymnasium's camera sees of a state, with the world where the episode has come to."""
        if self._camera is None:
            self._camera = _make_original(self.task_id, render_mode="rgb_array")
            self._camera.reset()
        original: Any = self._camera.unwrapped
        parts = self._split(state.double().cpu())
        qpos = parts.qpos.clone()
        qpos[: self.task.roaming] += parts.travelled
        if len(parts.goal):
            original.goal = parts.goal.numpy()
            original.update_target_site_pos()
        _simulated(self._camera).set_state(qpos.numpy(), parts.qvel.numpy())
        return np.asarray(self._camera.render(), np.uint8)

    def close(self, **_: Any) -> None:
        if self._camera is not None:
            self._camera.close()

    def _split(self, states: Tensor) -> State:
        return State(*states.split(self._sizes, -1))


def _make_original(task: str, **kwargs: Any) -> gym.Env[Any, Any]:
    if task not in gym.registry:
        register_robotics()
    try:
        return gym.make(task, **kwargs)
    except gym.error.UnregisteredEnv as error:
        raise UserError(f"{task} comes with gymnasium-robotics: pip install 'balrl[robotics]'") from error


def _simulated(env: gym.Env[Any, Any]) -> Any:
    """Return the environment that holds the simulator; mazes keep it inside."""
    return getattr(env.unwrapped, "point_env", env.unwrapped)


def _observations(env: gym.Env[Any, Any]) -> gym.spaces.Box:
    space = env.observation_space
    if isinstance(space, gym.spaces.Box):
        return _single_precision(space)
    return gym.spaces.Box(-np.inf, np.inf, (SpaceAdapter(space, env.action_space).observation_dim,), np.float32)


def _single_precision(space: gym.spaces.Box) -> gym.spaces.Box:
    return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


make_mujoco = MujocoVectorEnv.single
