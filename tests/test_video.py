"""Films of episodes."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import balrl
from balrl.agents import BC
from balrl.cli.main import main
from balrl.envs import PointMazeVectorEnv
from balrl.errors import UserError
from balrl.video import film_episode, write_film


def agent() -> BC:
    env = PointMazeVectorEnv(1)
    torch.manual_seed(0)
    return BC(env.single_observation_space, env.single_action_space)


def test_an_episode_is_filmed_from_its_first_step_to_its_last() -> None:
    env = PointMazeVectorEnv(2, max_episode_steps=9)
    film = film_episode(lambda o: torch.ones(2, 2), env, seed=0)
    assert (film.steps, len(film.pictures), film.seconds) == (9, 9, 1 / 25)
    env.reset(seed=0)
    assert (np.asarray(film.pictures[0]) == env.render()[0]).all()
    assert (np.asarray(film.pictures[1]) != np.asarray(film.pictures[0])).any()
    assert film.pictures[0].size == (8 * 32, 8 * 32)


def test_the_body_is_where_the_state_says() -> None:
    env = PointMazeVectorEnv(1)
    picture = env.draw(torch.tensor([1.5, 2.5, 0.0, 0.0]))
    red = np.argwhere((picture == (200, 40, 40)).all(-1)).mean(0)
    np.testing.assert_allclose(red / 32, (2.5, 1.5), atol=0.05)


def test_films_are_thinned_and_made_smaller(tmp_path: Path) -> None:
    env = PointMazeVectorEnv(1, "large", max_episode_steps=11)
    env.metadata = {**env.metadata, "render_fps": 125}
    write_film(film_episode(lambda o: torch.ones(1, 2), env, seed=0), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, max(film.size), film.info["duration"]) == (3, 320, 40)  # type: ignore[attr-defined]
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_what_users_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = balrl.record_video(agent(), tmp_path / "maze.gif", "balrl/PointMaze-v0")
    with Image.open(tmp_path / "maze.gif") as film:
        assert film.n_frames <= steps <= 200  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"ends in \.gif or \.mp4"):
        balrl.record_video(agent(), tmp_path / "maze.avi", "balrl/PointMaze-v0")
    with pytest.raises(UserError, match="4 observations and 2 actions"):
        balrl.record_video(agent(), tmp_path / "x.gif", "balrl/Pendulum-v1")
    assert main(["evaluate", str(tmp_path), "--video", str(tmp_path / "a.png")]) == 2
    assert "ends in .gif or .mp4" in capsys.readouterr().err


def test_an_mp4_shows_the_same(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    env = PointMazeVectorEnv(1, "large", max_episode_steps=40)
    film = film_episode(lambda o: torch.ones(1, 2), env, seed=0)
    for name in ("a.mp4", "a.gif"):
        write_film(film, tmp_path / name)
    with av.open(str(tmp_path / "a.mp4")) as found:
        stream = found.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in found.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(1 / film.seconds)
    assert len(frames) == len(film.pictures) == 40
    for frame, picture in zip(frames, film.pictures, strict=True):
        shown = np.asarray(picture.resize(frame.shape[1::-1])).astype(int)
        assert np.abs(shown - frame).mean() < 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.mp4"]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'balrl\[film\]', or name a \.gif"):
        balrl.record_video(agent(), tmp_path / "maze.mp4", "balrl/PointMaze-v0")


def test_what_cannot_be_drawn_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PointMazeVectorEnv, state: torch.Tensor) -> None:
        raise RuntimeError("no display\nand more")

    monkeypatch.setattr(PointMazeVectorEnv, "draw", fail)
    with pytest.raises(UserError, match=r"cannot be drawn: no display$"):
        balrl.record_video(agent(), tmp_path / "x.gif", "balrl/PointMaze-v0")
    assert not list(tmp_path.iterdir())


def test_one_world_draws_itself_if_asked_its_last_state_included() -> None:
    one = gym.make("balrl/PointMaze-v0", render_mode="rgb_array", max_episode_steps=2)
    one.reset(seed=0)
    first = np.asarray(one.render())
    assert first.shape == (256, 256, 3)
    for _ in range(2):
        one.step(np.ones(2, np.float32))
    inner = one.unwrapped.vector  # type: ignore[attr-defined]
    assert (np.asarray(one.render()) == inner.draw(inner.last_states[0])).all()
    assert gym.make("balrl/PointMaze-v0").unwrapped.render() is None
