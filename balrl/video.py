"""Pictures of an episode, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from balrl.errors import UserError, check_target, first_line
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
            pictures.append(draw_or_explain(lambda: small_picture(draw_or_explain(env.render))))
        step = collector.step(act)
        if hasattr(act, "saw"):
            act.saw(step)
        done = bool(step.done[0])
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


def check_film(path: Path) -> Path:
    """Return a file for a film; raise a `UserError` if it cannot be written."""
    check_target(path, (".gif", ".mp4"))
    if path.suffix == ".mp4":
        _av()
    return path


def write_film(film: Film, path: Path) -> None:
    """Write a film as a GIF, or as an MP4 (H.264, extra `film`) of a tenth of its size; whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    if path.suffix == ".mp4":
        _write_mp4(film, temporary)
    else:
        first, *rest = film.pictures
        first.save(temporary, "GIF", save_all=True, append_images=rest, duration=round(1000 * film.seconds), loop=0)
    temporary.replace(path)


def _write_mp4(film: Film, path: Path) -> None:
    av = _av()
    width, height = (side + side % 2 for side in film.pictures[0].size)  # H.264's colours are of squares of four
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(1 / film.seconds).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, "yuv420p", {"crf": "26"}
        for picture in film.pictures:
            frame = av.VideoFrame.from_image(picture.convert("RGB").resize((width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError("MP4 files need PyAV: pip install 'balrl[film]', or name a .gif") from error
    return av


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
