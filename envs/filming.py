"""Films of the first world while others learn in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorWrapper
from torch import Tensor

from balrl.envs.torch_env import TorchVectorEnv
from balrl.video import Film, frames_between, small_picture, write_film


class FilmFirstWorld(VectorWrapper):
    """Writes ``step-000100000.gif`` of the first world from time to time, across the ends of its episodes.

    While a film is taken only the world's state is kept, on the device; it is drawn, at most 25 pictures a second of
    the task's time, when the film is full or the environment is closed. No step waits for the host but that last one.

    Args:
        env: a `balrl.envs.TorchVectorEnv`, wrapped or not.
        folder: for the films; it is made.
        every: steps of the vector from the beginning of a film to that of the next; the first begins at once.
        length: steps of a film.

    Raises:
        ValueError: for other environments and for films that overlap.
    """

    def __init__(
        self, env: gym.vector.VectorEnv[Any, Any, Any], folder: Path | str, every: int = 10_000, length: int = 500
    ) -> None:
        if not isinstance(env.unwrapped, TorchVectorEnv):
            raise ValueError(f"FilmFirstWorld films environments of tensors, not {env}")
        if not 1 <= length <= every:
            raise ValueError(f"length is {length} and every {every}, expected 1 <= length <= every")
        super().__init__(env)
        self.folder, self.every, self.length = Path(folder), every, length
        self.steps = 0
        self._world: TorchVectorEnv = env.unwrapped
        self._between, self._seconds = frames_between(env)
        self._kept: list[Tensor] = []

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        stepped = self.env.step(actions)
        into = self.steps % self.every
        if into < self.length and into % self._between == 0:
            self._kept.append(self._world.last_states[0].clone())
        self.steps += 1
        if into == self.length - 1:
            self._write()
        return stepped

    def close(self, **kwargs: Any) -> None:
        self._write()
        self.env.close(**kwargs)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the environment's own; films are no part of it."""
        inner: Any = self.env
        return inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        inner: Any = self.env
        inner.load_state_dict(state)

    def _write(self) -> None:
        if not self._kept:
            return
        pictures = [small_picture(self._world.draw(state)) for state in self._kept]
        self._kept = []
        first = (self.steps - 1) // self.every * self.every
        self.folder.mkdir(parents=True, exist_ok=True)
        write_film(Film(pictures, self._seconds, len(pictures)), self.folder / f"step-{first:09d}.gif")
