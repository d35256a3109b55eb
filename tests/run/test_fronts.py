"""Fronts of trained runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import balrl
from balrl.errors import UserError
from balrl.run.fronts import fronts
from tests.run.test_objectives import ONLINE, config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fronts")
    made = {"vector": config()}
    for name, weights in (("fast", "[2, 0]"), ("slow", "[0.5, 0.5]"), ("odd", "[1, -1]"), ("plain", "[]")):
        env = "balrl/PointMaze-v0" if name == "plain" else "balrl/PointMazeEnergy-v0"
        settings = {**ONLINE, "env": env, "data.reward_weights": weights}
        made[name] = balrl.load_config("sac/point-maze", settings=settings)
    for name, one in made.items():
        assert balrl.train(one, folder / name).finished
    return {name: folder / name for name in made}


def test_a_vector_run_has_a_front_and_weighted_sums_make_one(runs: dict[str, Path]) -> None:
    found = fronts([runs["vector"], runs["fast"], runs["slow"]], episodes=2, preferences=3)
    assert list(found) == ["vector", "weighted sums"]
    front = found["vector"].front
    assert front is not None
    assert front.points.shape == (3, 2)
    assert found["vector"].hypervolume_reference == (-200, -200)
    together = found["weighted sums"].front
    assert together is not None
    assert together.preferences.tolist() == [[1, 0], [0.5, 0.5]]


def test_what_does_not_belong_together_is_refused_before_anything_is_played(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balrl.run.fronts.evaluate", lambda *_, **__: pytest.fail("played"))
    with pytest.raises(
        UserError, match=r"from 1 rewards of balrl/PointMaze-v0.*, .* from 2 rewards of balrl/PointMazeEnergy-v0"
    ):
        fronts([runs["vector"], runs["plain"]])
    with pytest.raises(UserError, match="reference has 3 numbers, expected 2"):
        fronts([runs["vector"]], reference=(1, 2, 3))


@pytest.mark.parametrize(("name", "said"), [("odd", "no preference, which is ≥ 0"), ("plain", "learned from one rew")])
def test_what_has_no_front_is_refused(runs: dict[str, Path], name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fronts([runs[name]])
