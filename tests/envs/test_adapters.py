"""Vector environments of other libraries."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from balrl.envs.adapters import EnvPoolVectorEnv, StableBaselines3VectorEnv
from balrl.rollout import Collector
from tests.scripted_env import ScriptedEnv
from tests.test_rollout import collect


def worlds(count: int = 3, goal: bool = False) -> list[Any]:
    return [lambda w=w: ScriptedEnv(w, goal) for w in range(count)]


@pytest.mark.parametrize("goal", [False, True])
def test_stable_baselines3_gives_the_same_transitions(goal: bool) -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env", reason="stable-baselines3 is not installed")
    ours, _ = collect(Collector(SyncVectorEnv(worlds(goal=goal), autoreset_mode=AutoresetMode.SAME_STEP)), 25)
    theirs, _ = collect(Collector(StableBaselines3VectorEnv(vec_env.DummyVecEnv(worlds(goal=goal)))), 25)
    assert theirs == ours


def test_stable_baselines3_s_time_limits_are_truncations_and_its_seeds_repeat() -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env", reason="stable-baselines3 is not installed")

    def make() -> gym.Env[Any, Any]:
        return TimeLimit(gym.make("Pendulum-v1").unwrapped, 3)

    env = StableBaselines3VectorEnv(vec_env.DummyVecEnv([make, make]))
    collector = Collector(env, seed=5)
    first = collector.observations
    for step in range(6):
        taken = collector.step(lambda o: torch.zeros(2, 1))
        assert not taken.batch.terminated.any()
        assert taken.done.tolist() == [step % 3 == 2] * 2
    collector.start(5)
    assert torch.equal(collector.observations, first)
    assert not torch.equal(first[0], first[1])


def test_gymnasium_s_asynchronous_environments_give_the_same_transitions() -> None:
    ours, _ = collect(Collector(SyncVectorEnv(worlds(2), autoreset_mode=AutoresetMode.SAME_STEP)), 12)
    env = AsyncVectorEnv(worlds(2), autoreset_mode=AutoresetMode.SAME_STEP, shared_memory=False)
    theirs, _ = collect(Collector(env), 12)
    env.close()
    assert theirs == ours


class Pool:
    """What `envpool.make_gymnasium` returns, over Gymnasium's worlds that reset themselves a step later."""

    def __init__(self, count: int, batch_size: int | None = None) -> None:
        self.env = SyncVectorEnv(worlds(count), autoreset_mode=AutoresetMode.NEXT_STEP)
        self.config = {"num_envs": count, "batch_size": count if batch_size is None else batch_size}
        self.observation_space, self.action_space = self.env.single_observation_space, self.env.single_action_space

    def reset(self) -> Any:
        return self.env.reset(seed=None)

    def step(self, actions: Any) -> Any:
        *stepped, _ = self.env.step(actions)
        return *stepped, {"env_id": list(range(3)), "elapsed_step": [0, 0, 0]}

    def close(self) -> None:
        self.env.close()


def test_envpool_s_worlds_give_the_same_transitions() -> None:
    ours, _ = collect(Collector(SyncVectorEnv(worlds(), autoreset_mode=AutoresetMode.SAME_STEP)), 25)
    theirs, _ = collect(Collector(EnvPoolVectorEnv(Pool(3))), 25)
    assert theirs == ours
    with pytest.raises(ValueError, match="every step must be of every world"):
        EnvPoolVectorEnv(Pool(4, 2))
