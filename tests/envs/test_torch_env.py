"""What environments of tensors have in common: ends, limits, seeds, states that go on, and no word to the host."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import balrl.envs
from balrl.envs.torch_env import Frame, TorchVectorEnv
from tests.execution.test_updates import NoHost


class Line(TorchVectorEnv):
    """Walk along a line from somewhere in [0, 1): terminates at 3, and the simulation fails beyond −2."""

    def __init__(self, num_envs: int, render_mode: str | None = None) -> None:
        observed, acted = (gym.spaces.Box(-bound, bound, (1,), np.float32) for bound in (np.inf, 1.0))
        super().__init__(num_envs, observed, acted, 4, dtype=torch.float64, render_mode=render_mode)

    def initial_states(self, count: int) -> Tensor:
        return torch.rand(count, 1, generator=self.generator, dtype=self.dtype)

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        place = (states + actions).squeeze(-1)
        return states + actions, place, place >= 3, {"diverged": place < -2}

    def observe(self, states: Tensor) -> Tensor:
        return 10 * states

    def draw(self, state: Tensor) -> Frame:
        return np.full((2, 2, 3), round(10 * state.item()), np.uint8)


def test_an_end_shows_the_true_last_observation_and_begins_anew_in_the_same_step() -> None:
    """Actions are clipped, and what is no number acts as 0."""
    env, ends = Line(201), 0
    before, _ = env.reset(seed=0)
    for step in range(12):
        actions = np.roll(np.linspace(-2, 2, 201), 17 * step)[:, None]
        actions[actions == 0] = math.nan
        observations, rewards, terminated, truncated, infos = env.step(actions)
        done, last = terminated | truncated, before.numpy() + 10 * np.nan_to_num(actions).clip(-1, 1)
        np.testing.assert_allclose(infos["final_obs"].numpy(), last, rtol=0, atol=1e-12)
        np.testing.assert_allclose(rewards.numpy(), last[:, 0] / 10, rtol=0, atol=1e-12)
        assert torch.equal(terminated, rewards >= 3)
        assert torch.equal(observations[~done], infos["final_obs"][~done])
        assert ((observations[done] >= 0) & (observations[done] < 10)).all()
        assert len(observations[done].unique()) == done.sum()
        before, ends = observations, ends + int(terminated.sum())
    assert ends > 20


def test_the_limit_truncates_also_beside_termination_and_counts_from_each_world_s_own_beginning() -> None:
    env = Line(3)
    env.reset(seed=0)
    env.states = torch.tensor([[0.0], [-0.5], [2.0]], dtype=torch.float64)
    flags = [env.step(torch.tensor([[0.8], [0.1], [1.0 - step]]))[2:4] for step in range(5)]
    terminated, truncated = (torch.stack(x).T.int().tolist() for x in zip(*flags, strict=True))
    assert terminated == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert truncated == [[0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    env.states = torch.full((3, 1), -1.9, dtype=torch.float64)
    assert env.step(torch.tensor([[0.0], [-1.0], [0.0]]))[3].tolist() == [False, True, False]  # it diverged


def walked(env: TorchVectorEnv) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([env.step(4 * torch.rand(50, 1, generator=generator) - 1)[0] for _ in range(9)])


def test_seeds_repeat_and_a_saved_state_goes_on_bit_for_bit() -> None:
    one, other = Line(50), Line(50)
    first, _ = one.reset(seed=3)
    assert torch.equal(first, other.reset(seed=3)[0])
    assert torch.equal(walked(one), walked(other))
    state = one.state_dict()
    expected = walked(one)
    other.reset(seed=8)
    for env in (Line(50), other):
        env.load_state_dict({key: value.clone() for key, value in state.items()})
        assert torch.equal(walked(env), expected)
    assert torch.equal(one.reset(seed=3)[0], first)
    assert not torch.equal(one.reset()[0], first)
    assert not torch.equal(Line(50).reset()[0], Line(50).reset()[0])


TASKS = [name for name in balrl.envs.registered() if not name.endswith(("-v3", "-v5"))]  # without a simulator


@pytest.mark.parametrize("kind", [Line, *(balrl.envs.registered()[name] for name in TASKS)])
def test_no_step_asks_the_host(kind: type[TorchVectorEnv]) -> None:
    env = kind(8)  # type: ignore[call-arg]
    env.max_episode_steps = 3
    actions = torch.rand(8, *env.single_action_space.shape)  # type: ignore[misc]
    with NoHost():
        env.reset(seed=0)
        for _ in range(5):
            env.step(actions)


def test_one_world_as_an_ordinary_environment_ends_where_it_ended_and_shows_that_place() -> None:
    one = Line.single(render_mode="rgb_array")
    place, _ = one.reset(seed=0)
    for step in range(4):
        observation, reward, terminated, truncated, info = one.step(np.array([0.1]))
        assert observation == pytest.approx(place + 1 + step, abs=1e-6)
        assert (reward, terminated, truncated) == (observation.item() / 10, False, step == 3)
        assert info == {"diverged": np.False_}
        assert one.render()[0, 0, 0] == round(observation.item())
