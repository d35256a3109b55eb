"""What is drawn of observations is what is drawn of the states that they came from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl.envs  # noqa: F401
from balrl.envs.observed import draw_observations, drawing_task
from balrl.errors import UserError
from balrl.run.registry import make_drawn_env, make_env


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "CartPoleSwingUp-v0", "PointMaze-v0"])
def test_states_are_found_in_observations_of_our_tasks(name: str) -> None:
    env: Any = make_env(f"balrl/{name}", 6)
    observations, _ = env.reset(seed=0)
    for _ in range(4):
        observations = env.step(torch.ones(6, *env.single_action_space.shape))[0]
        torch.testing.assert_close(env.observe(env.states_of(observations)), observations)
    frames = draw_observations(env, observations, every=4)
    assert len(frames) == 2
    for frame, world in zip(frames, (0, 4), strict=True):
        assert np.abs(frame.astype(int) - env.draw(env.states[world])).mean() < 1


def test_mujoco_is_drawn_from_positions_and_velocities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The states that are set are those of the simulation; where it has travelled to is found to a centimetre."""
    env = make_env("HalfCheetah-v5", 1)
    task: Any = env.unwrapped.envs[0].unwrapped  # type: ignore[attr-defined]
    seen, states = [torch.from_numpy(env.reset(seed=0)[0][0])], [task.data.qpos.copy()]
    for _ in range(9):
        observations, *_ = env.step(env.action_space.sample() * 0 + 0.5)
        seen.append(torch.from_numpy(observations[0]))
        states.append(task.data.qpos.copy())
    drawn: list[Any] = []
    monkeypatch.setattr(task, "set_state", lambda qpos, qvel: drawn.append((qpos, qvel)))
    monkeypatch.setattr(task, "render", lambda: np.zeros((2, 2, 3), np.uint8))
    assert len(draw_observations(env, torch.stack(seen), every=3)) == 4
    for (qpos, qvel), true, observation in zip(drawn, states[::3], seen[::3], strict=True):
        np.testing.assert_allclose(qpos[1:], true[1:], atol=1e-6)
        np.testing.assert_allclose(qvel, observation[8:], atol=1e-6)
        assert abs((qpos[0] - drawn[0][0][0]) - (true[0] - states[0][0])) < 0.02 * 9
    assert drawn[0][0][0] == 0


def test_the_task_that_draws() -> None:
    assert drawing_task("balrl/Hopper-v5") == drawing_task("Hopper-v5") == "Hopper-v5"
    assert drawing_task("Pendulum-v1") == drawing_task("balrl/Pendulum-v1") == "balrl/Pendulum-v1"
    assert drawing_task("Acrobot-v1") == "Acrobot-v1"


@pytest.mark.parametrize("name", ["InvertedDoublePendulum-v5", "balrl/Contextual-v0"])
def test_what_observations_do_not_show_is_not_drawn(name: str) -> None:
    env = make_drawn_env(name)
    width = env.single_observation_space.shape[0]  # type: ignore[index]
    with pytest.raises(UserError, match="do not show its state"):
        draw_observations(env, torch.zeros(3, width))
    with pytest.raises(UserError, match=f"have 1 values, those of {name} have {width}"):
        draw_observations(env, torch.zeros(3, 1))


def test_gymnasium_has_tasks_without_a_simulator() -> None:
    env = gym.make_vec("Acrobot-v1", num_envs=1, vectorization_mode="sync", render_mode="rgb_array")
    with pytest.raises(UserError, match="Acrobot-v1 do not show"):
        draw_observations(env, torch.zeros(3, 6))
