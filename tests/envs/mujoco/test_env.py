"""Gymnasium's MuJoCo tasks on MuJoCo Warp, with the real engine and its recorded graph."""

from __future__ import annotations

import os
import sys
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco.humanoid_v5 import mass_center

import balrl.envs  # noqa: F401
from balrl.envs.mujoco.env import MujocoVectorEnv
from balrl.envs.mujoco.tasks import TASKS
from balrl.errors import UserError

pytest.importorskip("mujoco_warp", reason="the extra 'warp' is not installed")

WORLDS = 16
CORE = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5")


def all_tasks() -> list[Any]:
    """Four in the suite; each costs seconds of compiling the first time."""
    names = [name for name in TASKS if not name.startswith("PointMaze")]
    return [pytest.param(name, marks=() if name in CORE else pytest.mark.slow) for name in names]


def test_the_tasks_are_there() -> None:
    assert set(CORE) < set(TASKS)


def steep_capsules_near_the_floor(task: Any, action: Any) -> bool:
    """MuJoCo turns the friction pyramid of a capsule with its axis; MuJoCo Warp does not where that is steep."""
    data = mujoco.MjData(task.model)
    for name in ("qpos", "qvel", "qacc_warmstart"):
        getattr(data, name)[:] = getattr(task.data, name)
    data.ctrl[:] = action
    radius, half_length = task.model.geom_size[:, 0], task.model.geom_size[:, 1]
    for _ in range(task.frame_skip):
        mujoco.mj_step(task.model, data)
        axes = data.geom_xmat.reshape(-1, 3, 3)[:, :, 2]
        steep = np.linalg.norm(axes[:, :2], axis=-1) < 0.55
        lowest = data.geom_xpos[:, 2] - half_length * np.abs(axes[:, 2]) - radius
        if (steep & (lowest < 0.06) & (task.model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)).any():
            return True
    return False


@pytest.mark.parametrize("name", all_tasks())
def test_one_step_is_gymnasium_s(name: str) -> None:
    """From states that random actions reach: observations to 2e-3, rewards to 1e-4, the same terminations."""
    env = MujocoVectorEnv(WORLDS, name, check_overflow=True)
    task: Any = gym.make(name).unwrapped
    if name == "Humanoid-v5":
        task.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    assert env.single_action_space == task.action_space
    assert env.single_observation_space.shape == task.observation_space.shape
    observations, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    forces = 5e-4 if name == "Humanoid-v5" else 0.0  # it observes newtons, up to thousands
    compared, ended, off = 0, 0, []
    for step in range(40):
        actions = rng.uniform(env.single_action_space.low, env.single_action_space.high, env.action_space.shape)
        qpos, qvel, warm_start, memory, *_ = (x.double().numpy() for x in env.states.split(env._sizes, -1))
        _, rewards, terminated, _, infos = env.step(actions)
        for i in range(WORLDS):
            mujoco.mj_resetData(task.model, task.data)
            task.set_state(qpos[i], qvel[i])
            if not step:
                np.testing.assert_allclose(observations[i].numpy(), task._get_obs(), rtol=1e-5, atol=1e-5)
            task.data.qacc_warmstart[:] = warm_start[i]
            if name == "Ant-v5":
                task.data.xpos[1, 0] = memory[i, 0]
            if name == "Humanoid-v5":
                task.data.xipos[:, 0] += memory[i, 0] - mass_center(task.model, task.data)[0]
            if name == "Ant-v5" and steep_capsules_near_the_floor(task, actions[i]):
                continue
            observation, reward, ends, _, _ = task.step(actions[i].astype(np.float32))
            found = infos["final_obs"][i].numpy()
            np.testing.assert_allclose(found, observation, rtol=0, atol=2e-3 + forces * np.abs(observation).max())
            off.append((np.abs(found - observation).max(), abs(rewards[i].item() - reward)))
            assert rewards[i].item() == pytest.approx(reward, abs=1e-4)
            assert bool(terminated[i]) == ends
            compared, ended = compared + 1, ended + ends
    worst, median = np.max(off, 0), np.median(off, 0)
    print(f"| {name} | {compared} | {worst[0]:.1e} | {median[0]:.1e} | {worst[1]:.1e} |")
    assert compared > 200 if name == "Ant-v5" else compared == 40 * WORLDS
    assert ended or name in ("HalfCheetah-v5", "Ant-v5", "Swimmer-v5", "Reacher-v5", "Pusher-v5")


def rollout(env: MujocoVectorEnv, steps: int, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        actions = rng.uniform(-1, 1, env.action_space.shape)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        found += [observations, rewards, terminated, truncated, infos["final_obs"]]
    return found


def assert_same(found: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert len(found) == len(others)
    assert all(torch.equal(a, b) for a, b in zip(found, others, strict=True))


def test_a_seed_repeats_everything_and_the_recording_is_what_was_recorded() -> None:
    env, eager = MujocoVectorEnv(WORLDS, "Hopper-v5"), MujocoVectorEnv(WORLDS, "Hopper-v5", graph=False)
    runs = []
    for made in (env, env, eager):
        made.reset(seed=3)
        runs.append(rollout(made, 20))
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])
    env.reset(seed=4)
    assert not torch.equal(rollout(env, 1)[0], runs[0][0])


def test_going_on_from_a_saved_state_is_exact() -> None:
    env, other = MujocoVectorEnv(WORLDS, "Ant-v5"), MujocoVectorEnv(WORLDS, "Ant-v5")
    env.reset(seed=0)
    rollout(env, 5)
    state = {key: value.clone() for key, value in env.state_dict().items()}
    other.reset(seed=9)
    other.load_state_dict(state)
    assert_same(rollout(env, 5, seed=1), rollout(other, 5, seed=1))


def test_episodes_end_and_begin_again() -> None:
    env = MujocoVectorEnv(WORLDS, "Hopper-v5", max_episode_steps=7)
    observations, _ = env.reset(seed=0)
    age = torch.zeros(WORLDS, dtype=torch.int64)
    episodes = 0
    for _ in range(30):
        observations, _, terminated, truncated, infos = env.step(torch.ones(WORLDS, 3))
        age += 1
        assert torch.equal(truncated, age >= 7)
        done = terminated | truncated
        running = ~done
        assert torch.equal(observations[running], infos["final_obs"][running])
        start = torch.tensor([1.25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        assert (observations[done] - start).abs().max() <= 5e-3 + 1e-6 if done.any() else True
        episodes += int(done.sum())
        age[done] = 0
    assert episodes >= 3 * WORLDS


@pytest.mark.parametrize("value", [1e9, float("inf")])
def test_a_world_that_explodes_starts_anew_and_harms_no_other(value: float) -> None:
    env, untouched = MujocoVectorEnv(WORLDS, "HalfCheetah-v5"), MujocoVectorEnv(WORLDS, "HalfCheetah-v5")
    for made in (env, untouched):
        made.reset(seed=0)
        rollout(made, 3)
    env.states[5, 9 + 4] = value  # a joint's speed
    expected = rollout(untouched, 1)
    observations, rewards, terminated, truncated, infos = env.step(np.random.default_rng(0).uniform(-1, 1, (WORLDS, 6)))
    others = torch.arange(WORLDS) != 5
    assert infos["diverged"].tolist() == (~others).tolist()
    assert truncated[5]
    assert not terminated[5]
    assert rewards[5] == 0
    assert observations[5].abs().max() < 1
    for found, wanted in zip((observations, rewards, truncated), (expected[0], expected[1], expected[3]), strict=True):
        assert torch.equal(found[others], wanted[others])
    assert all(x.isfinite().all() for x in rollout(env, 20))


def test_first_states_have_gymnasium_s_noise() -> None:
    env = MujocoVectorEnv(2000, "HalfCheetah-v5", graph=False)
    env.reset(seed=0)
    qpos, qvel = env.states[:, 1:9], env.states[:, 9:18]  # the first position is where nothing depends on it
    assert qpos.abs().max() <= 0.1
    assert qpos.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert qvel.std().item() == pytest.approx(0.1, rel=0.02)
    assert qvel.abs().max() > 0.3  # normal, not uniform


def test_buffers_that_are_too_small_are_found() -> None:
    env = MujocoVectorEnv(2, "Hopper-v5", check_overflow=True)
    env.reset(seed=0)
    rollout(env, 2)
    env._physics._overflow[0] = 1
    with pytest.raises(RuntimeError, match="NEFC"):
        rollout(env, 1)


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(UserError, match=r"pip install 'balrl\[warp\]'"):
        MujocoVectorEnv(2, "Hopper-v5")
    with pytest.raises(ValueError, match="expected one of"):
        MujocoVectorEnv(2, "Hoper-v5")


def test_they_are_registered() -> None:
    env = gym.make_vec("balrl/Hopper-v5", num_envs=3, device="cpu", graph=False)
    assert isinstance(env, MujocoVectorEnv)
    one = gym.make("balrl/Hopper-v5", graph=False)
    assert one.observation_space.contains(one.reset(seed=0)[0])


def test_the_picture_is_gymnasium_s_of_where_the_episode_has_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("DISPLAY"):
        monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))
    env = MujocoVectorEnv(2, "HalfCheetah-v5", graph=False)
    env.reset(seed=0)
    way = torch.zeros(2, 1)
    for _ in range(5):
        _, rewards, _, _, infos = env.step(torch.ones(2, 6))
        way += (rewards + 0.1 * 6).unsqueeze(-1) * env.dt
        torch.testing.assert_close(infos["travelled"], way, rtol=1e-4, atol=1e-5)
    camera = gym.make("HalfCheetah-v5", render_mode="rgb_array")
    camera.reset()
    task: Any = camera.unwrapped
    qpos, qvel = env.states[0, :9].double().numpy(), env.states[0, 9:18].double().numpy()
    task.set_state(np.concatenate([way[0].double().numpy(), qpos[1:]]), qvel)
    try:
        wanted = np.asarray(camera.render())
    except Exception as error:
        pytest.skip(f"nothing can be drawn here: {error}")
    assert np.abs(env.render()[0].astype(int) - wanted).mean() < 1
    env.close()


def test_the_solver_s_limits_can_be_set() -> None:
    """The model's own change nothing, one iteration of one step is less exact, none is refused."""

    def states(**limits: int) -> torch.Tensor:
        env = MujocoVectorEnv(WORLDS, "Hopper-v5", **limits)
        env.reset(seed=0)
        generator = torch.Generator().manual_seed(1)
        for _ in range(12):
            env.step(2 * torch.rand(WORLDS, 3, generator=generator) - 1)
        return env.states

    own = gym.make("Hopper-v5").unwrapped.model.opt  # type: ignore[attr-defined]
    usual = states()
    assert torch.equal(states(solver_iterations=int(own.iterations), line_search_steps=int(own.ls_iterations)), usual)
    assert not torch.allclose(states(solver_iterations=1, line_search_steps=1), usual, atol=1e-4)
    for limits in ({"solver_iterations": 0}, {"line_search_steps": -1}):
        with pytest.raises(ValueError, match="expected at least 1"):
            MujocoVectorEnv(1, "Hopper-v5", **limits)
