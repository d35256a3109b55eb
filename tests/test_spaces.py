from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from balrl.errors import UserError
from balrl.spaces import SpaceAdapter, space_from_json, space_to_json

FLAT = gym.spaces.Box(-np.inf, np.inf, (3,))


@given(st.floats(-100, 99), st.floats(0.1, 100), st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_action_scaling_is_an_involution_onto_the_bounds(low: float, width: float, actions: list[float]) -> None:
    adapter = SpaceAdapter(FLAT, gym.spaces.Box(low, low + width, (1,), np.float64))
    inside = np.array(actions)[:, None]
    outside = adapter.to_environment(inside)
    assert (outside >= low - 1e-6).all()
    assert (outside <= low + width + 1e-6).all()
    np.testing.assert_allclose(adapter.from_environment(outside), inside, atol=1e-6 + 1e-12 * abs(low) / width * 1e4)
    torch.testing.assert_close(adapter.to_environment(torch.from_numpy(inside)), torch.from_numpy(outside))


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (gym.spaces.Box(0, 1, (3, 4)), gym.spaces.Box(-1, 1, (2,)), "expected a flat Box or a goal dictionary"),
        (gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (2,)), "expected a flat Box or a goal dictionary"),
        (gym.spaces.Dict({"a": FLAT}), gym.spaces.Box(-1, 1, (2,)), "expected a goal dictionary"),
        (FLAT, gym.spaces.Discrete(3), "action space Discrete"),
        (FLAT, gym.spaces.Box(-np.inf, np.inf, (2,)), "unbounded"),
    ],
)
def test_other_spaces_are_refused_by_name(observation: gym.Space, action: gym.Space, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpaceAdapter(observation, action)


def test_spaces_survive_json() -> None:
    for space in (FLAT, gym.spaces.Box(-2, 3, (2,)), gym.spaces.Dict({"observation": FLAT, "desired_goal": FLAT})):
        assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space
