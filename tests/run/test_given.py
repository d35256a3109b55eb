from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from balrl.config import EnvironmentConfig
from balrl.errors import UserError
from balrl.run.given import GivenTask, check_named, is_vector
from tests.faulty_env import FaultyEnv

CONFIG = EnvironmentConfig()


def test_a_callable_makes_as_many_worlds_as_are_asked_for() -> None:
    task = GivenTask(FaultyEnv)
    assert (str(task), task.num_envs) == ("given:FaultyEnv", None)
    env = task.make(3, CONFIG)
    assert env.num_envs == 3
    assert len({id(world.unwrapped) for world in env.unwrapped.envs}) == 3  # type: ignore[attr-defined]
    assert task.make(1, EnvironmentConfig(max_episode_steps=4)) is not env


def test_a_vector_is_used_and_copied_to_evaluate_in() -> None:
    env = SyncVectorEnv([FaultyEnv] * 2)
    task = GivenTask(env)
    assert is_vector(env)
    assert task.num_envs == 2
    first, second = task.make(9, CONFIG), task.make(9, CONFIG)
    assert first is env
    assert second is not env
    first.reset()
    first.step(np.zeros((2, 1)))
    assert second.unwrapped.envs[0].t == 0  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="need worlds that balrl puts side by side"):
        GivenTask(env).make(2, EnvironmentConfig(on_invalid="end-episode"))


def test_a_callable_may_make_a_vector() -> None:
    task = GivenTask(lambda: SyncVectorEnv([FaultyEnv] * 2))
    assert (task.num_envs, task.name) == (2, "SyncVectorEnv")
    made = [task.make(1, CONFIG) for _ in range(3)]
    assert len({id(env) for env in made}) == 3


def test_a_registered_vector_is_made_again() -> None:
    env = gym.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    task = GivenTask(env)
    first, second = task.make(2, CONFIG), task.make(2, CONFIG)
    assert first is env
    assert second is not env
    assert second.spec is not None
    assert second.spec.id == "Pendulum-v1"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (FaultyEnv(), r"env is one FaultyEnv, but a run needs several: .*env=lambda: FaultyEnv\(\)"),
        (3, "env is int, expected a Gymnasium id, a callable"),
        (lambda: 3, r"env\(\) returned int, expected"),
    ],
)
def test_other_things_are_refused(env: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GivenTask(env)


def test_what_cannot_be_made_twice_is_refused() -> None:
    one = FaultyEnv()
    with pytest.raises(UserError, match="returned the same environment twice"):
        GivenTask(lambda: one).make(2, CONFIG)
    processes = AsyncVectorEnv([FaultyEnv] * 2)
    try:
        task = GivenTask(processes)
        assert task.make(2, CONFIG) is processes
        with pytest.raises(UserError, match="this AsyncVectorEnv cannot be copied: hand over a callable"):
            task.make(2, CONFIG)
    finally:
        processes.close()


def test_the_name_of_an_object_names_nothing() -> None:
    check_named("Hopper-v5", "env")
    with pytest.raises(UserError, match=r"the run's env was an object \('X'\), .* hand it over again, env=…"):
        check_named("given:X", "env")
