"""Actors that run ahead: whose steps they are, how old their policy is, and what a run makes of them."""

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
from balrl.agents import SAC, TD3BC, SACConfig, TD3BCConfig
from balrl.config import EnvironmentConfig
from balrl.envs.ahead import AheadCollector, explorer_of
from balrl.envs.gymnasium_env import side_by_side
from balrl.envs.remote import RemoteVectorEnv
from balrl.errors import UserError
from balrl.random_stream import RandomStream
from balrl.watch.tracking import read_metrics
from tests.envs.test_remote import pid_of
from tests.run.small import Interrupt, Listening, hopper_config

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def _one_cluster() -> Iterator[None]:
    from balrl.ray_cluster import connect, import_ray

    connect(import_ray("the tests"), None)
    yield
    ray.shutdown()


class Counting(gym.Env[Any, Any]):
    """Shows its seed's number, how many steps were taken, and the action that came before; ten steps long."""

    observation_space = gym.spaces.Box(-1000, 1000, (3,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.own, self.count = float(self.np_random.integers(900)), 0
        return np.array([self.own, 0.0, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.array([self.own, float(self.count), float(action[0])]), float(action[0]), self.count == 10, False, {}


def counting(count: int) -> Any:
    return side_by_side([Counting() for _ in range(count)], 20)


def agent(mean: float = 0.0) -> SAC:
    """One that always does the same, told by `mean`, but for a little noise."""
    made = SAC(Counting.observation_space, Counting.action_space, SACConfig(hidden=(4,)))
    set_mean(made, mean)
    return made


def set_mean(made: SAC, mean: float) -> None:
    with torch.no_grad():
        for p in made.policy.parameters():
            p.zero_()
        made.policy.mean.bias.fill_(float(np.arctanh(mean)))
        made.policy.log_std.bias.fill_(-8.0)


@pytest.mark.parametrize(("stale", "oldest"), [(1, 1), (8, 7)])
def test_steps_follow_one_another_and_no_policy_is_too_old(stale: int, oldest: int) -> None:
    """The policy of step t always does t / 30: what was done says whose it was."""
    env = RemoteVectorEnv(counting, 4, 2, cpus=0.1)
    made = agent()
    collector = AheadCollector(env, "cpu", seed=0, stale=stale)
    ages = []
    for now in range(25):
        set_mean(made, now / 30)
        before = collector.observations.clone()
        step = collector.step(made.explore)
        assert torch.equal(step.batch.observations, before)
        torch.testing.assert_close(step.batch.next_observations[:, 2], step.batch.actions[:, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close(step.batch.rewards, step.batch.actions[:, 0], rtol=0, atol=1e-6)
        assert step.batch.next_observations[:, 1].tolist() == [now % 10 + 1.0] * 4
        assert step.batch.terminated.tolist() == [now % 10 == 9] * 4
        ages.append(now - 30 * step.batch.actions.mean().item())
    found = collector.pop_ended()
    assert max(ages) == pytest.approx(oldest, abs=0.2)
    assert min(ages) > -0.2
    assert found["staleness_max"] == oldest <= stale
    assert found["staleness"] == pytest.approx(np.mean(ages), abs=0.2)
    assert (found["length"], len(set(collector.observations[:, 0].tolist()))) == (10.0, 4)
    env.close()


@pytest.mark.slow
def test_an_actor_that_dies_ends_its_episodes_and_goes_on() -> None:
    env = RemoteVectorEnv(counting, 2, 2, cpus=0.1)
    collector, made = AheadCollector(env, "cpu", seed=0, stale=2), agent(0.5)
    collector.step(made.explore)
    os.kill(pid_of(env, 0), signal.SIGKILL)
    time.sleep(0.5)
    with pytest.warns(UserWarning, match="the actor of worlds 0 to 0 was lost"):
        steps = [collector.step(made.explore) for _ in range(3)]
    lost = [s for s in steps if s.valid is not None]
    assert [s.valid.tolist() for s in lost if s.valid is not None] == [[False, True]]
    assert lost[0].done.tolist() == [True, False]
    assert not lost[0].batch.terminated.any()
    assert collector.observations[0, 1] < collector.observations[1, 1]
    env.close()


def test_what_is_sent_explores_as_the_agent_does() -> None:
    td3 = TD3BC(Counting.observation_space, Counting.action_space, TD3BCConfig(hidden=(4,), exploration_noise=0.3))
    sent = explorer_of(td3.explore)
    assert sent is not None
    seen = torch.randn(5, 3)
    for one in (sac := agent(0.2), td3):
        one.stream.reseed(7)
        found = explorer_of(one.explore)
        assert found is not None
        torch.testing.assert_close(found.act(seen, stream := RandomStream(7)), one.explore(seen))
        assert torch.equal(stream.position, one.stream.position)
    with pytest.raises(UserError, match="only an agent's own policy can"):
        explorer_of(lambda observations: sac.explore(observations))


AHEAD = EnvironmentConfig(executor="ray", actors=2, actor_cpus=0.1, stale=4)


@pytest.mark.slow
def test_a_run_learns_from_them_and_says_that_it_is_not_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hopper_config(num_envs="2").model_copy(update={"environment": AHEAD})
    listening = Listening()
    result = balrl.train(config, tmp_path / "run", listening)
    assert result.finished
    assert "a resumed one begins new episodes" in listening.heard
    logged = read_metrics(tmp_path / "run" / "metrics.jsonl")
    ages = [record["rollout/staleness_max"] for record in logged if "rollout/staleness_max" in record]
    assert ages
    assert max(ages) <= 4
    assert not balrl.train(config, tmp_path / "cut", Interrupt(45, crash=False)).finished
    again = Listening()
    assert balrl.resume(tmp_path / "cut", display=again).finished
    assert "running episodes restart" in again.heard


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune.serve": "champion"}, "environment.stale=4 needs finetune.serve=newest, found champion"),
        ({"agent.chunk_size": "3"}, "needs agent.chunk_size=1, found 3"),
    ],
)
def test_what_needs_the_newest_policy_is_refused(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    config = hopper_config(**settings).model_copy(update={"environment": AHEAD})
    with pytest.raises(UserError, match=message):
        balrl.train(config, tmp_path / "run")
