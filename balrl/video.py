"""Pictures of an episode, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from balrl.errors import UserError, first_line
from balrl.rollout import Collector

FRAMES_PER_SECOND = 25
LONGER_SIDE = 320
"""Of a picture, in pixels."""
LONGEST = 10_000
"""Steps that are filmed of an episode without end."""


class Film(NamedTuple):
    """Pictures of an episode, each shown for so many seconds of the task's time, and how many steps it took."""

    pictures: list[Image.Image]
    seconds: float
    steps: int


def film_episode(
    act: Callable[[Tensor], Tensor],
    env: gym.vector.VectorEnv[Any, Any, Any],
    seed: int,
    device: torch.device | str = "cpu",
) -> Film:
    """Film the first world's first episode: at most 25 pictures a second, made smaller where they are large.

    Raises:
        UserError: where the environment cannot be drawn.
    """
    collector = Collector(env, device, seed)
    every, seconds = frames_between(env)
    pictures, steps, done = [], 0, False
    while not done and steps < LONGEST:
        if steps % every == 0:
            pictures.append(small_picture(draw_or_explain(env.render)))
        done = bool(collector.step(act).done[0])
        steps += 1
    return Film(pictures, seconds, steps)


def small_picture(frame: Any) -> Image.Image:
    """Return a frame ``[height, width, 3]`` as a picture, made smaller where it is large."""
    picture = Image.fromarray(np.asarray(frame, np.uint8))
    picture.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return picture


def frames_between(env: gym.vector.VectorEnv[Any, Any, Any]) -> tuple[int, float]:
    """Return every how many steps to take a picture, at most 25 a second, and for how many seconds it is shown."""
    fps = float(env.metadata.get("render_fps") or FRAMES_PER_SECOND)
    every = max(1, round(fps / FRAMES_PER_SECOND))
    return every, every / fps


def write_gif(film: Film, path: Path) -> None:
    """Write a film as a GIF, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    first, *rest = film.pictures
    first.save(temporary, "GIF", save_all=True, append_images=rest, duration=round(1000 * film.seconds), loop=0)
    temporary.replace(path)


def draw_or_explain(draw: Callable[[], Any]) -> Any:
    """Return what drawing gives, the first world's picture of several.

    Raises:
        UserError: where the environment cannot be drawn.
    """
    try:
        found = draw()
    except UserError:
        raise
    except Exception as error:  # graphics fail in as many ways as there are drivers
        reason = first_line(error)
        raise UserError(f"this task cannot be drawn: {reason}") from error
    return found[0] if isinstance(found, tuple) else found
