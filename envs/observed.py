"""Pictures of logged observations: what a task looked like, from what its agent saw."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor

from balrl.envs.mujoco.tasks import TASKS
from balrl.envs.torch_env import Frame, TorchVectorEnv
from balrl.errors import UserError


def drawing_task(env_id: str) -> str:
    """Return the task whose observations are `env_id`'s and that needs least to draw them.

    Gymnasium's MuJoCo tasks are drawn without the GPU engine, its classic ones by the torch environments here.
    """
    name = env_id.removeprefix("balrl/")
    own = f"balrl/{name}"
    return name if name in TASKS else own if own in gym.registry else env_id


def draw_observations(env: gym.vector.VectorEnv[Any, Any, Any], observations: Tensor, every: int = 1) -> list[Frame]:
    """Return pictures of the observations ``[H, observation_dim]`` of consecutive steps, of every so many of them.

    MuJoCo tasks are drawn from the positions and velocities in their observations; places that those leave out begin at
    0 and move with the observed velocities.

    Args:
        env: of `drawing_task`, made with ``render_mode="rgb_array"``.
        observations: of one segment.
        every: 2 draws the first, the third, …

    Raises:
        UserError: where observations are another task's, or do not show its state.
    """
    base: Any = env.unwrapped
    name = env.spec.id if env.spec is not None else type(base).__name__
    shape = env.single_observation_space.shape
    if shape is not None and shape != tuple(observations.shape[1:]):
        raise UserError(f"these observations have {observations.shape[1]} values, those of {name} have {shape[0]}")
    if isinstance(base, TorchVectorEnv):
        return [base.draw(state) for state in base.states_of(observations[::every])]
    task = base.envs[0].unwrapped if hasattr(base, "envs") else base
    structure = getattr(task, "observation_structure", None)
    if structure is None:
        raise UserError(
            f"observations of {name} do not show its state; balrl draws those of its own tasks and of Gymnasium's "
            "MuJoCo locomotion"
        )
    values = observations.double().cpu().numpy()
    hidden, shown, speeds = structure.get("skipped_qpos", 0), structure["qpos"], structure["qvel"]
    velocities = values[:, shown : shown + speeds]
    travelled = np.cumsum(velocities[:, :hidden] * task.dt, 0) - velocities[:1, :hidden] * task.dt
    frames = []
    for place, row, velocity in zip(travelled[::every], values[::every], velocities[::every], strict=True):
        task.set_state(np.concatenate([place, row[:shown]]), velocity)
        frames.append(np.asarray(task.render(), np.uint8))
    return frames
