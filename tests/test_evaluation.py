from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, strategies as st

from balrl.envs import PointMazeVectorEnv
from balrl.errors import UserError
from balrl.evaluation import Evaluation, Reference, bootstrap_interval, evaluate_policy, iqm, probability_of_improvement
from tests.test_rollout import MODES, vector


@pytest.mark.parametrize("mode", MODES)
def test_every_world_gives_its_quota_however_long_its_episodes(mode: AutoresetMode) -> None:
    """World w starts at episode w of the script; taking the first to finish would count the one-step episodes twice."""
    result = evaluate_policy(lambda o: torch.zeros(len(o), 1), vector(mode, worlds=3), 6, seed=0)
    assert result.lengths == (3, 2, 2, 4, 4, 1)
    assert result.successes == (True, False, False, True, True, False)
    assert result.returns == pytest.approx((0.6, 2.3, 0.3, 4 + 1.0, 1.0, 1.1))


def test_uneven_quotas_sum_up() -> None:
    result = evaluate_policy(lambda o: torch.zeros(len(o), 1), vector(AutoresetMode.SAME_STEP, worlds=3), 5, seed=0)
    assert len(result.returns) == 5


def test_same_seed_same_returns() -> None:
    env = PointMazeVectorEnv(5, max_episode_steps=30)
    runs = [evaluate_policy(lambda o: o[:, :2], env, 12, seed).returns for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_preference_for_one_reward_and_none_for_several_are_refused() -> None:
    with pytest.raises(UserError, match="pays one reward a step: a preference is over several, leave it out"):
        evaluate_policy(lambda o: o[:, :2], PointMazeVectorEnv(1), 1, 0, preference=(1.0, 0.0))
    with pytest.raises(UserError, match="pays 2 rewards a step: which preference over them"):
        evaluate_policy(lambda o: o[:, :2], PointMazeVectorEnv(1, energy=True), 1, 0)


def test_scores() -> None:
    result = Evaluation((10.0, 30.0), (1, 2), 0, (True, False), Reference(0.0, 40.0, "x"))
    assert (result.score, result.success_rate) == (50.0, 0.5)
    assert Evaluation((10.0,), (1,), 0).score == 10.0
    assert Evaluation((10.0,), (1,), 0).success_rate is None
    data = result.to_json()
    assert data["return_std"] == 10.0
    assert data["reference"] == "x"


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert iqm([0, 0, 1, 2, 3, 4, 100, 1000]) == pytest.approx((1 + 2 + 3 + 4) / 4)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10))
def test_intervals_hold_the_range_of_the_data(scores: list[float]) -> None:
    low, high = bootstrap_interval([scores], np.mean, samples=100)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9


def test_intervals_are_stratified_by_task() -> None:
    """Tasks far apart must not widen the interval: seeds are resampled within each."""
    low, high = bootstrap_interval([[0.0, 1.0, 0.5], [100.0, 101.0, 100.5]], np.mean, samples=500)
    assert low >= 50.0
    assert high <= 51.0


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        low, high = bootstrap_interval([rng.normal(size=30)], np.mean, samples=200, seed=i)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_probability_of_improvement_counts_wins_and_half_of_ties() -> None:
    value, low, high = probability_of_improvement([[1, 2, 3], [5, 5, 5]], [[0, 2, 9], [5, 5, 5]])
    assert value == pytest.approx((((3 + 3 + 2) - 9 / 2 + 9 / 2 + 0.5 - 4) / 9 + 0.5) / 2)
    assert 0 <= low <= value <= high <= 1
    assert probability_of_improvement([[2, 3]], [[0, 1]]) == (1.0, 1.0, 1.0)
