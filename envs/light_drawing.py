"""MuJoCo drawn cheaply: on a CPU most of a picture's time goes into shadows, reflections and smooth edges."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

SHADOW_MAP = 512
"""Texels of a side; MuJoCo's 4,096 are most of the work of a small picture on a CPU."""


def draw_lightly(env: gym.vector.VectorEnv[Any, Any, Any], longer_side: int) -> None:
    """Let Gymnasium's MuJoCo worlds draw small pictures, without reflections and smooth edges; others stay as they are.

    To be called before the first picture. What is simulated does not change.

    Args:
        env: worlds in this process.
        longer_side: of a picture, in pixels.
    """
    for world in getattr(env.unwrapped, "envs", ()):
        model, renderer = (getattr(world.unwrapped, name, None) for name in ("model", "mujoco_renderer"))
        if model is None or renderer is None or not (renderer.width and renderer.height):
            continue
        scale = min(1.0, longer_side / max(renderer.width, renderer.height))
        renderer.width, renderer.height = (max(2, round(scale * side)) for side in (renderer.width, renderer.height))
        model.vis.quality.shadowsize = SHADOW_MAP
        model.vis.quality.offsamples = 0
        model.mat_reflectance[:] = 0
