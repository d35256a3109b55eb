"""Drawing lightly: smaller, the same picture in the large, the same simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from balrl.envs.light_drawing import draw_lightly
from balrl.errors import UserError
from balrl.run.registry import make_drawn_env, make_env
from balrl.video import LONGER_SIDE, draw_or_explain


def world(env: Any) -> Any:
    return env.unwrapped.envs[0].unwrapped


def test_it_is_the_same_picture_and_the_same_simulation() -> None:
    light, own = make_drawn_env("Hopper-v5"), make_env("Hopper-v5", 1, kwargs={"render_mode": "rgb_array"})
    for env in (light, own):
        env.reset(seed=3)
        env.action_space.seed(0)
    steps = [[env.step(env.action_space.sample())[0] for _ in range(5)] for env in (light, own)]
    np.testing.assert_array_equal(*steps)
    try:
        small, large = (draw_or_explain(env.render) for env in (light, own))
    except UserError as error:
        pytest.skip(str(error))
    assert small.shape == (LONGER_SIDE, LONGER_SIDE, 3)
    assert large.shape == (480, 480, 3)
    shrunk = np.asarray(Image.fromarray(large).resize((LONGER_SIDE, LONGER_SIDE))).astype(int)
    assert np.abs(shrunk - small).mean() < 12


def test_others_are_left_alone() -> None:
    for name in ("balrl/PointMaze-v0", "Pendulum-v1"):
        draw_lightly(make_env(name, 1), 100)
    env = make_env("Hopper-v5", 1, kwargs={"render_mode": "rgb_array", "width": 90, "height": 60})
    draw_lightly(env, 45)
    assert (world(env).mujoco_renderer.width, world(env).mujoco_renderer.height) == (45, 30)
    draw_lightly(env, 1000)
    assert (world(env).mujoco_renderer.width, world(env).mujoco_renderer.height) == (45, 30)
