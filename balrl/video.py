"""Pictures of an episode, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from balrl.rollout import Collector

Frame = NDArray[np.uint8]
FRAMES_PER_SECOND = 25
LARGEST = 320
"""Pixels of the longer side."""


def film_episode(
    act: Callable[[Tensor], Tensor],
    env: gym.vector.VectorEnv[Any, Any, Any],
    seed: int,
    device: torch.device | str = "cpu",
) -> list[Frame]:
    """Return a picture of the first world before every step of its first episode."""
    collector = Collector(env, device, seed)
    frames, done = [], False
    while not done:
        picture: Any = env.render()
        frames.append(np.asarray(picture[0] if isinstance(picture, tuple) else picture, np.uint8))
        done = bool(collector.step(act).done[0])
    return frames


def write_gif(frames: Sequence[Frame], path: Path, fps: float) -> None:
    """Write pictures as a GIF, thinned to 25 a second and made smaller where they are large.

    Args:
        frames: ``[height, width, 3]`` each, 8 bits.
        path: of the file.
        fps: pictures per second of the task's time.
    """
    from PIL import Image

    every = max(1, round(fps / FRAMES_PER_SECOND))
    pictures = [Image.fromarray(frame) for frame in frames[::every]]
    for picture in pictures:
        picture.thumbnail((LARGEST, LARGEST))
    temporary = path.with_name(f".{path.name}")
    pictures[0].save(
        temporary, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * every / fps), loop=0
    )
    temporary.replace(path)
