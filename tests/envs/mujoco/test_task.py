"""What a task is unless it says otherwise, and how tasks are fed with the original simulator's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from balrl.envs.mujoco.env import MujocoVectorEnv
from balrl.envs.mujoco.physics import OUTPUTS, STATE
from balrl.envs.mujoco.task import Outcome, State, Task, Views, endless
from balrl.envs.mujoco.tasks import TASKS


class Walk(NamedTuple):
    """Steps of Gymnasium's own task in float64: what the simulator held before and after them, and what it said."""

    before: dict[str, Tensor]
    after: dict[str, Tensor]
    actions: Tensor
    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    dt: float


def views_of(data: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(getattr(data, name))[None]) for name in (*STATE, *OUTPUTS)}


def walk(name: str, scale: float, steps: int = 80, seed: int = 0) -> Walk:
    """Take random actions, from a random state that is `scale` off the model's own every fourth step."""
    task: Any = gym.make(name).unwrapped
    rng = np.random.default_rng(seed)
    before, after, actions, told = [], [], [], []
    for step in range(steps):
        if step % 4 == 0:
            qpos = task.init_qpos + scale * rng.uniform(-1, 1, task.model.nq)
            task.set_state(qpos, task.init_qvel + 10 * scale * rng.standard_normal(task.model.nv))
        before.append(views_of(task.data))
        actions.append(rng.uniform(task.action_space.low, task.action_space.high))
        told.append(task.step(actions[-1])[:3])
        after.append(views_of(task.data))
    columns = [torch.from_numpy(np.array(column)) for column in zip(*told, strict=True)]
    joined = [{key: torch.cat([v[key] for v in views]) for key in views[0]} for views in (before, after)]
    return Walk(joined[0], joined[1], torch.from_numpy(np.array(actions)), *columns, task.dt)


def state_of(task: Task, views: Views) -> State:
    parts = (views["qpos"], views["qvel"], views["qacc_warmstart"], task.memory(views), task.features(views))
    return State(*parts, views["qpos"][:, : task.roaming], views["qpos"][:, :0])


def judged(task: Task, made: Walk) -> tuple[Tensor, Outcome]:
    """Return the task's observations and outcome of a walk, each step of which begins at the roaming origin."""
    origin = torch.zeros_like(made.before["xpos"][:, 0])
    origin[:, : task.roaming] = made.before["qpos"][:, : task.roaming]
    after = dict(made.after)
    for name in ("xpos", "xipos"):
        after[name] = after[name] - origin.unsqueeze(1)
    after["qpos"] = after["qpos"].clone()
    after["qpos"][:, : task.roaming] -= origin[:, : task.roaming]
    return task.observe(state_of(task, after)), task.outcome(state_of(task, made.before), after, made.actions, made.dt)


@dataclass(frozen=True)
class Plain(Task):
    """Says what a task must say; rewards are what it remembered, or nothing."""

    noise: float = 0.05

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.memory, state.features], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        return endless(before.memory.sum(-1))


@dataclass(frozen=True)
class Placed(Plain):
    """Remembers and observes where its bodies are."""

    def memory(self, views: Views) -> Tensor:
        return views["xpos"][:, 1, :1]

    def features(self, views: Views) -> Tensor:
        return views["xpos"][:, -1]


@pytest.mark.parametrize(("normal_velocities", "drawn"), [(False, -1.0), (True, 4.0)])
def test_episodes_begin_at_the_model_s_own_state_moved_by_what_was_drawn(normal_velocities: bool, drawn: float) -> None:
    qpos, qvel = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.0, 5.0]).double()
    first = Plain(normal_velocities=normal_velocities).begin(
        qpos, qvel, lambda n: -torch.ones(7, n).double(), lambda n: 4 * torch.ones(7, n).double()
    )
    torch.testing.assert_close(first.qpos, (qpos - 0.05).expand(7, 3), rtol=0, atol=1e-15)
    torch.testing.assert_close(first.qvel, (qvel + 0.05 * drawn).expand(7, 2), rtol=0, atol=1e-15)
    assert first.goal is None


def test_a_task_that_says_no_more_remembers_and_observes_nothing_ends_never_and_knows_no_success() -> None:
    views = dict.fromkeys(("qpos", "qvel", "qacc_warmstart"), torch.ones(4, 3).double())
    task = Plain()
    state = state_of(task, views)
    assert torch.cat(state, -1).shape == (4, 9)
    assert task.observe(state).shape == (4, 0)
    assert task.success(state, views) is None
    rewards, terminated = task.outcome(state, views, views["qpos"], 0.1)
    assert rewards.tolist() == [0.0] * 4
    assert terminated.tolist() == [False] * 4


def test_only_what_is_located_knows_where_its_bodies_are_when_an_episode_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mujoco_warp", reason="the extra 'warp' is not installed")
    task: Any = gym.make("InvertedPendulum-v5").unwrapped
    for located in (False, True):
        monkeypatch.setitem(TASKS, "InvertedPendulum-v5", Placed(located=located))
        env = MujocoVectorEnv(3, "InvertedPendulum-v5", graph=False)
        observations, _ = env.reset(seed=0)
        for i in range(3):
            task.data.qpos[:] = env.states[i, :2].double().numpy()
            mujoco.mj_kinematics(task.model, task.data)
            places = np.r_[task.data.xpos[1, :1], task.data.xpos[-1]] if located else np.zeros(4)
            np.testing.assert_allclose(observations[i].numpy(), places, rtol=0, atol=1e-6)
        remembered = observations[:, 0]
        assert torch.equal(env.step(torch.ones(3, 1))[1], remembered)
