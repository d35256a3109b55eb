from __future__ import annotations

import json
from typing import Any

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
        (
            gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
            gym.spaces.Box(-1, 1, (2,)),
            "an image of shape .* Encode images first",
        ),
        (
            gym.spaces.Discrete(3),
            gym.spaces.Box(-1, 1, (2,)),
            "is Discrete.3., expected a Box or a dictionary of boxes",
        ),
        (gym.spaces.Dict({"a": gym.spaces.Text(3)}), gym.spaces.Box(-1, 1, (2,)), r"observation space\['a'\] is Text"),
        (FLAT, gym.spaces.Discrete(3), "is discrete: balrl is for continuous control"),
        (FLAT, gym.spaces.Box(1, 1, (2,)), "lower bound that is not below"),
        (FLAT, gym.spaces.Box(-np.inf, np.inf, (2,)), "unbounded"),
    ],
)
def test_other_spaces_are_refused_by_name(observation: gym.Space, action: gym.Space, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpaceAdapter(observation, action)


def test_spaces_survive_json() -> None:
    for space in (FLAT, gym.spaces.Box(-2, 3, (2,)), gym.spaces.Dict({"observation": FLAT, "desired_goal": FLAT})):
        assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_dictionaries_of_boxes_are_laid_out_one_after_another() -> None:
    space = gym.spaces.Dict(
        {
            "hand": gym.spaces.Box(-1, 1, (2, 2)),
            "body": gym.spaces.Dict({"place": gym.spaces.Box(-1, 1, (3,)), "height": gym.spaces.Box(0, 1, ())}),
        }
    )
    adapter = SpaceAdapter(space, gym.spaces.Box(-1, 1, (1,)))
    assert adapter.observation_dim == 8
    one = {
        "body": {"height": np.float32(9), "place": np.arange(3)},
        "hand": np.arange(4).reshape(2, 2) + 10,
    }
    expected = [part for key in space for part in ([9, 0, 1, 2] if key == "body" else [10, 11, 12, 13])]
    order = list(space["body"])  # gymnasium sorts keys
    assert order == ["height", "place"]
    assert adapter.flatten(one).tolist() == expected
    many = {"body": {"height": np.ones(5), "place": np.ones((5, 3))}, "hand": np.zeros((5, 2, 2))}
    assert adapter.flatten(many).shape == (5, 8)
    tensors = {"body": {"height": torch.ones(5), "place": torch.ones(5, 3)}, "hand": torch.zeros(5, 2, 2)}
    assert adapter.flatten(tensors).shape == (5, 8)
    assert adapter.flatten(np.zeros((5, 8))).shape == (5, 8)  # what is flat stays flat
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_a_box_of_several_dimensions_is_flattened() -> None:
    adapter = SpaceAdapter(gym.spaces.Box(-1, 1, (2, 3)), gym.spaces.Box(-1, 1, (1,)))
    assert adapter.flatten(np.arange(6).reshape(2, 3)).tolist() == list(range(6))
    assert adapter.flatten(np.zeros((4, 2, 3))).shape == (4, 6)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"type": "box"},
        {"type": "dict", "spaces": 3},
        [],
        {"type": "box", "low": ["a"], "high": [1], "shape": [1], "dtype": "float32"},
    ],
)
def test_what_is_no_stored_space_is_one_line(data: Any) -> None:
    with pytest.raises(UserError, match="a stored space cannot be read"):
        space_from_json(data)
