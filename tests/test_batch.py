"""Batches: rows, parts, joins."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from balrl.batch import Batch
from balrl.errors import UserError
from balrl.spaces import SpaceAdapter
from tests.conftest import random_batch


@given(count=st.integers(1, 5), size=st.integers(1, 4))
def test_split_and_joined_again_is_the_same(count: int, size: int) -> None:
    batch = random_batch(count * size, chunk_size=2)
    parts = batch.split(count)
    assert [len(part.rewards) for part in parts] == [size] * count
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part)
    for one, other in zip(batch, joined, strict=True):
        assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]


def test_rows_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ValueError, match="7 rows cannot be divided into 2 equal parts"):
        random_batch(7).split(2)


def test_what_one_lacks_the_joined_lacks() -> None:
    both = random_batch(2).join(random_batch(3)._replace(mc_returns=None))
    assert both.mc_returns is None
    assert both.next_actions is not None
    assert len(both.next_actions) == 5
    parts = both.split(5)
    assert all(part.mc_returns is None for part in parts)


def test_several_rewards_from_numpy() -> None:
    spaces = SpaceAdapter(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-2, 2, (2,)))
    arrays = {key: np.zeros((4, 3)) for key in ("observations", "next_observations")}
    arrays |= {"actions": np.ones((4, 2)), "rewards": np.arange(8.0).reshape(4, 2), "terminated": np.zeros(4)}
    batch = Batch.from_numpy(arrays, spaces)
    assert batch.rewards.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(UserError, match=r"preferences have shape \(4, 3\), expected \(4, 2\)"):
        Batch.from_numpy({**arrays, "preferences": np.ones((4, 3))}, spaces)


def test_rows_of_every_field() -> None:
    batch = random_batch(6, chunk_size=2)
    chosen = torch.tensor([4, 0])
    for kept, field in zip(batch.rows(chosen), batch, strict=True):
        assert kept is field is None or torch.equal(kept, field[chosen])  # type: ignore[arg-type,index]
    assert Batch(*batch[:5]).rows(slice(1, 3)).log_probs is None


SPACES = SpaceAdapter(gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-2.0, 4.0, (2,)))


def arrays(**changes: Any) -> dict[str, Any]:
    """Four transitions in a task's own units."""
    made = {
        "observations": np.ones((4, 3)),
        "actions": np.full((4, 2), 4.0),
        "rewards": [1, 2, 3, 4],
        "next_observations": np.zeros((4, 3), np.float64),
        "terminated": [0, 0, 1, 0],
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def test_arrays_of_a_loop_become_a_batch_in_the_agents_units() -> None:
    batch = Batch.from_numpy(arrays(mc_returns=np.arange(4), next_actions=np.full((4, 2), -2)), SPACES)
    assert batch.actions.tolist() == [[1.0, 1.0]] * 4
    assert batch.next_actions is not None
    assert batch.next_actions.tolist() == [[-1.0, -1.0]] * 4
    assert batch.terminated.tolist() == [False, False, True, False]
    assert batch.terminated.dtype == torch.bool
    assert {x.dtype for x in batch if x is not None} == {torch.float32, torch.bool}
    assert batch.log_probs is None


def test_dictionaries_are_flattened_on_the_way() -> None:
    space = gym.spaces.Dict({"arm": gym.spaces.Box(-1, 1, (2,)), "hand": gym.spaces.Box(-1, 1, (1,))})
    seen = {"arm": np.ones((4, 2)), "hand": np.zeros((4, 1))}
    spaces = SpaceAdapter(space, gym.spaces.Box(-1, 1, (2,)))
    batch = Batch.from_numpy(arrays(observations=seen, next_observations=seen), spaces)
    assert batch.observations.tolist() == [[1, 1, 0]] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.zeros((4, 5))}, r"the batch's actions have shape \(4, 5\), expected \(4, 2\)"),
        ({"observations": np.zeros(3)}, r"the batch's observations have shape \(3,\), expected \(4, 3\)"),
        ({"rewards": np.zeros((4, 1))}, r"the batch's rewards have shape \(4, 1\), expected \(4,\)"),
        ({"next_actions": np.zeros((3, 2))}, r"the batch's next_actions have shape \(3, 2\), expected \(4, 2\)"),
        ({"terminated": [0, 7, 0, 0]}, "the batch's terminated hold 7, expected booleans"),
        ({"rewards": ["a", "b", "c", "d"]}, "the batch's rewards hold <U1, expected numbers"),
        ({"rewards": None}, "the batch lacks 'rewards'"),
        ({"reward": np.zeros(4)}, "'reward' is no field of a batch; did you mean 'rewards'?"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Batch.from_numpy(arrays(**changes), SPACES)
