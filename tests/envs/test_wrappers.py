"""Wrappers of environments of tensors."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from hypothesis import given, settings, strategies as st

from balrl.envs import PendulumVectorEnv, PointMazeVectorEnv
from balrl.envs.wrappers import NormalizeObservations, RunningMoments, ScaleRewards
from balrl.rollout import Collector
from tests.execution.test_updates import NoHost


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), offset=st.sampled_from([0.0, 1e6]))
@settings(max_examples=30)
def test_moments_are_those_of_everything_seen(sizes: list[int], offset: float) -> None:
    moments = RunningMoments(3, torch.device("cpu"))
    assert moments.variance.tolist() == [1, 1, 1]
    rows = offset + torch.randn(sum(sizes), 3, dtype=torch.float64)
    for part in rows.split(sizes):
        moments.add(part)
    torch.testing.assert_close(moments.mean, rows.mean(0))
    torch.testing.assert_close(moments.variance, rows.var(0, correction=0), rtol=1e-6, atol=1e-6)


def run(env: Any, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [env.step(4 * torch.rand(env.num_envs, 1, generator=generator) - 2) for _ in range(steps)]


def test_observations_and_final_ones_are_normalised_alike() -> None:
    raw = PendulumVectorEnv(6, max_episode_steps=4)
    env = NormalizeObservations(PendulumVectorEnv(6, max_episode_steps=4))
    seen = [raw.reset(seed=0)[0]]
    env.reset(seed=0)
    for wanted, found in zip(run(raw, 10), run(env, 10), strict=True):
        seen.append(wanted[0])
        rows = torch.cat(seen).double()
        mean, std = rows.mean(0), rows.std(0, correction=0)
        torch.testing.assert_close(found[0], ((wanted[0] - mean) / std).float(), rtol=1e-4, atol=1e-5)
        final = ((wanted[4]["final_obs"] - mean) / std).clamp(-10, 10).float()
        torch.testing.assert_close(found[4]["final_obs"], final, rtol=1e-4, atol=1e-5)
        assert torch.equal(found[1], wanted[1])
    env.learning = False
    before = env.moments.mean.clone()
    run(env, 3)
    assert torch.equal(env.moments.mean, before)


def test_rewards_are_scaled_by_the_deviation_of_returns() -> None:
    raw = PendulumVectorEnv(4, max_episode_steps=3)
    env = ScaleRewards(PendulumVectorEnv(4, max_episode_steps=3), discount=0.9)
    raw.reset(seed=0)
    env.reset(seed=0)
    returns, seen = torch.zeros(4, dtype=torch.float64), []
    for step, (wanted, found) in enumerate(zip(run(raw, 8), run(env, 8), strict=True)):
        returns = 0.9 * returns + wanted[1]
        seen.append(returns.clone())
        deviation = torch.cat(seen).std(correction=0)
        expected = (wanted[1] / deviation).clamp(-10, 10).float()
        torch.testing.assert_close(found[1], expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(found[0], wanted[0])
        if step % 3 == 2:
            returns = torch.zeros_like(returns)


def test_both_go_on_exactly_and_leave_the_device_alone() -> None:
    env, other = (ScaleRewards(NormalizeObservations(PendulumVectorEnv(4))) for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=7)
    run(env, 5)
    other.load_state_dict({key: value.clone() for key, value in env.state_dict().items()})
    for a, b in zip(run(env, 5, 1), run(other, 5, 1), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        assert torch.equal(a[4]["final_obs"], b[4]["final_obs"])
    collector = Collector(env, seed=0)
    collector.step(lambda o: o[:, :1])
    with NoHost():
        collector.step(lambda o: o[:, :1])


def test_other_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="of tensors"):
        NormalizeObservations(gym.make_vec("Pendulum-v1", num_envs=2))
    assert NormalizeObservations(PointMazeVectorEnv(2)).moments.mean.shape == (4,)
