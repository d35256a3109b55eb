"""Films of the first world."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from balrl.envs import PendulumVectorEnv
from balrl.envs.filming import FilmFirstWorld
from balrl.envs.wrappers import ScaleRewards


def frames(path: Path) -> int:
    with Image.open(path) as film:
        return film.n_frames  # type: ignore[attr-defined,no-any-return]


def test_films_begin_when_they_should_and_the_last_is_not_lost(tmp_path: Path) -> None:
    env = FilmFirstWorld(PendulumVectorEnv(3), tmp_path / "films", every=10, length=4)
    env.reset(seed=0)
    for _ in range(22):
        env.step(torch.ones(3, 1))
    assert {p.name: frames(p) for p in (tmp_path / "films").iterdir()} == {
        "step-000000000.gif": 4,
        "step-000000010.gif": 4,
    }
    env.close()
    assert frames(tmp_path / "films" / "step-000000020.gif") == 2


def test_pictures_are_of_the_first_world_the_end_of_its_episode_included(tmp_path: Path) -> None:
    inner = PendulumVectorEnv(2, max_episode_steps=3)
    env, other = FilmFirstWorld(ScaleRewards(inner), tmp_path, 3, 3), PendulumVectorEnv(2, max_episode_steps=9)
    env.reset(seed=0)
    other.reset(seed=0)
    for _ in range(3):
        env.step(torch.ones(2, 1))
        other.step(torch.ones(2, 1))
    with Image.open(tmp_path / "step-000000000.gif") as film:
        film.seek(2)
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - other.render()[0]).mean() < 2
    assert np.abs(shown - inner.render()[0]).mean() > 2  # the next episode's first


def test_going_on_is_the_environment_s(tmp_path: Path) -> None:
    env, other = FilmFirstWorld(PendulumVectorEnv(2), tmp_path), FilmFirstWorld(PendulumVectorEnv(2), tmp_path)
    env.reset(seed=0)
    other.load_state_dict(env.state_dict())
    assert torch.equal(env.step(torch.ones(2, 1))[0], other.step(torch.ones(2, 1))[0])


def test_what_cannot_be_filmed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="environments of tensors"):
        FilmFirstWorld(gym.make_vec("Pendulum-v1", num_envs=1), tmp_path)
    with pytest.raises(ValueError, match="1 <= length <= every"):
        FilmFirstWorld(PendulumVectorEnv(1), tmp_path, every=3, length=4)
