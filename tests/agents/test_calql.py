from __future__ import annotations

import numpy as np
import pytest
import torch

from balrl.agents import CalQL
from tests.agents import reference
from tests.agents.test_cql import ROWS, N, drawn, make, penalty
from tests.conftest import random_batch


def test_policy_actions_are_never_pushed_below_the_return() -> None:
    agent, b = make(CalQL, critics=3), random_batch(ROWS, dtype=torch.float64)
    returns = torch.tensor([5.0, -5.0, 0.1, -np.inf, 0.0], dtype=torch.float64)
    b = b._replace(mc_returns=returns)
    _, logs, q = drawn(agent, b, seed=7)
    calibrated = q.copy()
    for k in range(N, 3 * N):
        calibrated[:, k] = np.maximum(q[:, k], returns.numpy())
    assert not np.array_equal(calibrated, q)
    data_q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    agent.stream.reseed(7)
    assert agent.penalty(b).item() == pytest.approx(penalty(calibrated, logs, data_q), rel=1e-9)


def test_without_returns_it_is_cql() -> None:
    agent, b = make(CalQL), random_batch(ROWS, dtype=torch.float64)
    b = b._replace(mc_returns=torch.full((ROWS,), -torch.inf, dtype=torch.float64))
    _, logs, q = drawn(agent, b, seed=7)
    data_q = reference.q_values(agent.critic, b.observations.numpy(), b.actions.numpy())
    agent.stream.reseed(7)
    assert agent.penalty(b).item() == pytest.approx(penalty(q, logs, data_q), rel=1e-9)


def test_asks_for_returns_while_its_penalty_stays() -> None:
    agent = make(CalQL)
    assert agent.fields_in("offline") == agent.fields_in("online") == ("mc_returns",)
    agent = make(CalQL, conservative_online=False)
    assert agent.fields_in("offline") == ("mc_returns",)
    assert agent.fields_in("online") == ()
    with pytest.raises(ValueError, match=r"needs Batch\.mc_returns"):
        agent.update(random_batch(ROWS, dtype=torch.float64)._replace(mc_returns=None))
