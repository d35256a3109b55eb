from __future__ import annotations

import numpy as np
import pytest
import torch

from balrl.rewards.monitor import RewardMonitor


def test_windows_are_means_over_what_was_added() -> None:
    monitor = RewardMonitor()
    scores, gold = torch.randn(4, 50), torch.randn(50)
    proxy = scores.amin(0)
    for part in (slice(0, 20), slice(20, 50)):
        monitor.add(scores[:, part], proxy[part], gold[part])
    found = monitor.pop()
    assert found["reward/proxy"] == pytest.approx(float(proxy.mean()), rel=1e-5)
    assert found["reward/gold"] == pytest.approx(float(gold.mean()), rel=1e-5)
    assert found["reward/disagreement"] == pytest.approx(float(scores.std(0, correction=0).mean()), rel=1e-5)
    assert found["reward/correlation"] == pytest.approx(np.corrcoef(proxy, gold)[0, 1], rel=1e-4)
    assert found["reward/gap"] == 0
    assert monitor.pop() == {}


def test_the_gap_is_what_the_proxy_gained_and_gold_did_not_in_deviations_of_the_first_window() -> None:
    monitor, first = RewardMonitor(), torch.tensor([-2.0, 2.0])
    monitor.add(first[None], first, 5 * first)
    monitor.pop()
    other = RewardMonitor()
    other.load_state_dict({k: v.clone() for k, v in monitor.state_dict().items()})
    for m in (monitor, other):
        m.add(first[None] + 6, first + 6, 5 * first - 10)
        assert m.pop()["reward/gap"] == pytest.approx(6 / 2 + 10 / 10)


def test_constant_rewards_have_no_correlation() -> None:
    monitor, ones = RewardMonitor(), torch.ones(3)
    monitor.add(ones[None], ones, ones)
    assert monitor.pop() == {"reward/proxy": 1, "reward/gold": 1, "reward/disagreement": 0, "reward/gap": 0}


def test_a_reward_that_never_differs_counts_in_its_own_units() -> None:
    """Without a deviation in the first window the gap is measured in ones."""
    monitor = RewardMonitor()
    constant = torch.full((6,), 3.0)
    monitor.add(constant[None], constant, constant)
    assert "reward/correlation" not in monitor.pop()
    monitor.add(constant[None], constant + 2, constant + 0.5)
    assert monitor.pop()["reward/gap"] == pytest.approx(2 - 0.5)
