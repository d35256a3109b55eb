from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from balrl.batch import Batch
from balrl.returns import MonteCarlo, RunningEpisodes, generalized_advantages


def step(values: list[float], terminated: list[bool]) -> Batch:
    """One vector step whose every field tells its reward."""
    r = torch.tensor(values)
    return Batch(r[:, None], r[:, None] / 10, r, r[:, None] + 0.5, torch.tensor(terminated))


def test_an_episode_comes_out_when_it_ends_with_its_returns() -> None:
    running = RunningEpisodes(2, MonteCarlo(0.5))
    assert running.add(step([1, 10], [False, False]), torch.tensor([False, False])) is None
    ended = running.add(step([2, 20], [True, False]), torch.tensor([True, False]))
    assert ended is not None
    assert ended.rewards.tolist() == [1, 2]
    assert ended.mc_returns.tolist() == [1 + 0.5 * 2, 2]
    assert ended.terminated.tolist() == [False, True]
    assert len(running) == 2
    ended = running.add(step([3, 30], [False, False]), torch.tensor([False, True]))
    assert ended.rewards.tolist() == [10, 20, 30]
    assert ended.mc_returns.tolist() == [10 + 0.5 * (20 + 0.5 * 30), 20 + 0.5 * 30, 30]
    assert len(running) == 1


def test_reset_rows_are_no_transitions() -> None:
    running = RunningEpisodes(1, MonteCarlo(1.0))
    running.add(step([1], [True]), torch.tensor([True]))
    assert running.add(step([99], [False]), torch.tensor([False]), torch.tensor([False])) is None
    ended = running.add(step([2], [True]), torch.tensor([True]), torch.tensor([True]))
    assert ended.rewards.tolist() == [2]


def test_a_truncated_episode_follows_the_chosen_rule() -> None:
    for truncation, expected in (("sum", [1.5, 1.0]), ("last_reward", [2.0, 2.0]), ("none", [-np.inf, -np.inf])):
        running = RunningEpisodes(1, MonteCarlo(0.5, truncation))  # type: ignore[arg-type]
        running.add(step([1], [False]), torch.tensor([False]))
        ended = running.add(step([1], [False]), torch.tensor([True]))
        assert ended.mc_returns.tolist() == expected


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 999))
def test_every_transition_comes_out_once_and_in_order_and_state_is_everything(n: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole, stopped = (RunningEpisodes(n, MonteCarlo(0.9)) for _ in range(2))
    seen: list[float] = []
    for t in range(steps):
        done = torch.from_numpy(rng.random(n) < 0.3)
        batch = step([float(t * n + i) for i in range(n)], done.tolist())
        one = whole.add(batch, done)
        fresh = RunningEpisodes(n, MonteCarlo(0.9))
        fresh.load_state_dict(stopped.state_dict())
        stopped = fresh
        two = stopped.add(batch, done)
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            assert torch.equal(one.mc_returns, two.mc_returns)
            assert torch.equal(one.rewards, two.rewards)
            seen += one.rewards.tolist()
    assert len(set(seen)) == len(seen)
    assert len(seen) + len(whole) == steps * n
    for world in range(n):
        mine = [x for x in seen if int(x) % n == world]
        assert mine == sorted(mine)


def test_for_ever_needs_a_discount() -> None:
    with pytest.raises(ValueError, match="discount is 1"):
        MonteCarlo(1.0, step_penalty=-1.0)


def test_advantages_bootstrap_where_an_episode_was_cut_off_and_not_where_it_ended() -> None:
    rewards, values, following = torch.ones(3, 3), torch.full((3, 3), 10.0), torch.full((3, 3), 20.0)
    terminated = torch.tensor([[False] * 3, [True, False, False], [False] * 3])
    done = torch.tensor([[False] * 3, [True, True, False], [False] * 3])
    found = generalized_advantages(rewards, values, following, terminated, done, 0.5, 0.5)
    assert found[2].tolist() == [1.0, 1.0, 1.0]  # 1 + ½ · 20 − 10: the last step always bootstraps
    assert found[1].tolist() == [-9.0, 1.0, 1.25]  # ended, cut off, running
    assert found[0].tolist() == [1 - 9 / 4, 1.25, 1 + 1.25 / 4]


@given(st.integers(1, 12), st.integers(1, 3), st.floats(0, 1), st.integers(0, 999))
def test_advantages_are_returns_less_values_with_decay_1_and_errors_with_decay_0(
    steps: int, worlds: int, discount: float, seed: int
) -> None:
    torch.manual_seed(seed)
    shape, kind = (steps, worlds), {"dtype": torch.float64}
    rewards, values, last = torch.randn(shape, **kind), torch.randn(shape, **kind), torch.randn(worlds, **kind)
    terminated = torch.rand(shape) < 0.3
    following = torch.cat([values[1:], last[None]])
    returns = last
    for t in range(steps - 1, -1, -1):
        returns = rewards[t] + discount * torch.where(terminated[t], 0.0, returns)
        whole = generalized_advantages(
            rewards[t:], values[t:], following[t:], terminated[t:], terminated[t:], discount, 1.0
        )
        torch.testing.assert_close(whole[0], returns - values[t])
    one = generalized_advantages(rewards, values, following, terminated, terminated, discount, 0.0)
    torch.testing.assert_close(one, rewards + discount * torch.where(terminated, 0.0, following) - values)


def test_an_episode_of_nothing_but_penalties_pays_for_ever() -> None:
    """``r / (1 − γ)`` at every step, whatever ended it; one other reward, and it is a sum like any."""
    rule = MonteCarlo(0.9, step_penalty=-0.5)
    penalties = np.full(3, -0.5, np.float32)
    for terminated in (True, False):
        np.testing.assert_allclose(rule.returns(penalties, terminated), [-5.0] * 3, rtol=1e-6)
    succeeded = np.array([-0.5, -0.5, 1.0], np.float32)
    np.testing.assert_allclose(rule.returns(succeeded, True), [-0.5 + 0.9 * 0.4, 0.4, 1.0], rtol=1e-6)
    np.testing.assert_allclose(MonteCarlo(0.9).returns(penalties, True)[0], -0.5 * (1 + 0.9 + 0.81), rtol=1e-6)


def test_steps_that_nobody_waits_for_any_more_are_let_go() -> None:
    running = RunningEpisodes(2, MonteCarlo(1.0))
    for length in range(1, 6):
        running.add(step([1, 2], [False, False]), torch.tensor([True, False]))
        assert len(running.steps) == length  # the second world's episode still needs them
    running.add(step([1, 2], [False, False]), torch.tensor([False, True]))
    assert len(running.steps) == 1
    assert running.starts == [0, 1]


def test_next_actions_are_kept_beside_the_returns() -> None:
    episodes, fresh = RunningEpisodes(1, MonteCarlo(0.9)), RunningEpisodes(1, MonteCarlo(0.9))
    first = step([1.0], [False])._replace(next_actions=torch.tensor([[0.25]]))
    assert episodes.add(first, torch.tensor([False])) is None
    fresh.load_state_dict(episodes.state_dict())
    for one in (episodes, fresh):
        ended = one.add(first._replace(next_actions=torch.tensor([[0.5]])), torch.tensor([True]))
        assert ended is not None
        assert ended.next_actions is not None
        assert ended.next_actions.tolist() == [[0.25], [0.5]]
