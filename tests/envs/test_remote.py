"""Worlds in Ray actors: the same steps as here, a saved state, an actor that dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.config import EnvironmentConfig
from balrl.envs.remote import RemoteVectorEnv
from balrl.errors import EnvironmentFault, UserError
from balrl.rollout import Collector
from balrl.run.given import GivenTask
from balrl.run.registry import make_env
from tests.run.small import Interrupt, final_state, hopper_config, records

ray = pytest.importorskip("ray")
REMOTE = EnvironmentConfig(executor="ray", actors=2, actor_cpus=0.1)


@pytest.fixture(scope="module", autouse=True)
def _one_cluster() -> Iterator[None]:
    from balrl.ray_cluster import connect, import_ray

    connect(import_ray("the tests"), None)
    yield
    ray.shutdown()


class Fragile(gym.Env[Any, Any]):
    """Counts its steps; succeeds at the fifth, its last."""

    observation_space = gym.spaces.Box(-100, 100, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.start, self.count = float(self.np_random.integers(50)), 0
        return np.array([self.start, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action[0] > 0.9:
            raise ValueError("too much")
        self.count += 1
        over = self.count == 5
        return np.array([self.start, float(self.count)]), float(action[0]), over, False, {"success": over}


def equal(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("task", ["Hopper-v5", "balrl/PointMaze-v0"])
def test_steps_are_those_of_worlds_in_this_process(task: str) -> None:
    """MuJoCo's to the bit, each world with its own seed; ours are one computation per actor, so with one actor."""
    count = 3 if task == "Hopper-v5" else 1
    kwargs = {"max_episode_steps": 7}
    remote, local = (make_env(task, count, "cpu", kwargs, c) for c in (REMOTE, EnvironmentConfig()))
    assert remote.single_action_space == local.single_action_space
    collectors = [Collector(env, "cpu", seed=4) for env in (remote, local)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(17):
        actions = torch.rand(count, collectors[0].spaces.action_dim, generator=generator) * 2 - 1
        ours, theirs = (c.step(lambda _, a=actions: a) for c in collectors)
        for a, b in zip(ours.batch, theirs.batch, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        assert torch.equal(ours.done, theirs.done)
        assert torch.equal(ours.returns, theirs.returns)
        assert (ours.success is None) == (theirs.success is None)
    assert collectors[0].pop_ended() == collectors[1].pop_ended()
    assert remote.max_episode_steps == 7  # type: ignore[attr-defined]
    assert equal(getattr(remote, "reference_returns", None), getattr(local, "reference_returns", None))
    remote.close()


@pytest.mark.slow
def test_a_run_is_the_same_and_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = hopper_config(num_envs="3", **{"environment.executor": "ray", "environment.actors": "2"})
    config = config.model_copy(update={"environment": REMOTE})
    balrl.train(hopper_config(num_envs="3"), tmp_path / "local")
    assert not balrl.train(config, tmp_path / "remote", Interrupt(45, crash=False)).finished
    assert balrl.resume(tmp_path / "remote").finished
    assert records(tmp_path / "remote") == records(tmp_path / "local")
    ours, theirs = final_state(tmp_path / "remote"), final_state(tmp_path / "local")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def fragile(count: int) -> Any:
    from balrl.envs.gymnasium_env import side_by_side

    return side_by_side([Fragile() for _ in range(count)], 10)


def pid_of(env: RemoteVectorEnv, index: int) -> int:
    found = env._actors[index].__ray_call__.remote(lambda _: os.getpid())
    return int(ray.get(found))


def test_an_actor_that_dies_is_replaced_and_its_episodes_are_aborted() -> None:
    env = RemoteVectorEnv(fragile, 4, 2, cpus=0.1)
    collector = Collector(env, "cpu", seed=0)

    def step() -> Any:
        return collector.step(lambda o: torch.full((len(o), 1), 0.5))

    for _ in range(2):
        step()
    last = collector.observations.clone()
    os.kill(pid_of(env, 1), signal.SIGKILL)
    time.sleep(0.5)
    with pytest.warns(UserWarning, match="the actor of worlds 2 to 3 was lost and is replaced"):
        found = step()
    assert found.valid is not None
    assert found.valid.tolist() == [True, True, False, False], "no transition of theirs enters a replay"
    assert found.done.tolist() == [False, False, True, True]
    assert not found.batch.terminated.any()
    assert torch.equal(found.batch.next_observations[2:], last[2:])
    assert collector.observations[:, 1].tolist() == [3, 3, 0, 0]
    assert env.restarts == 1
    for _ in range(5):
        step()
    ended = collector.pop_ended()
    assert ended == {"return": 2.5, "length": 5.0, "success": 1.0}, "episodes that were aborted count nowhere"
    env.close()


def test_what_a_world_raises_is_said_as_it_would_be_here() -> None:
    env = RemoteVectorEnv(fragile, 2, 2, cpus=0.1)
    collector = Collector(env, "cpu", seed=0)
    with pytest.raises(EnvironmentFault, match=r"world 0, step 1 of its episode: step raised ValueError: too much"):
        collector.step(lambda o: torch.ones(len(o), 1))
    env.close()
    env.close()


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="no environment 'Hopper-v77'"):
        make_env("Hopper-v77", 2, "cpu", {}, REMOTE)
    with pytest.raises(UserError, match="hand over a callable that makes one world instead of a vector"):
        make_env(GivenTask(fragile(2)), 2, "cpu", {}, REMOTE)
    with pytest.raises(UserError, match="actors, actor_cpus, address and stale are of executor: ray"):
        balrl.load_config("sac/locomotion", settings={"environment.actors": "2"})
