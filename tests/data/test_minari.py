from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from balrl.data.minari import from_minari, load_minari, save_minari
from balrl.envs.robotics import observation_adapter
from balrl.errors import UserError
from balrl.run.registry import load_dataset
from tests.conftest import make_dataset

minari = pytest.importorskip("minari", reason="Minari is not installed")


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_out_and_in_again(tmp_path: Path) -> None:
    data = make_dataset()
    save_minari(data, "toy/mixed-v0", gym.spaces.Box(-1, 1, (1,)))
    for name in ("minari:toy/mixed-v0", str(tmp_path / "minari" / "toy" / "mixed-v0")):
        found = load_dataset(name)
        for key in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated"):
            assert np.array_equal(getattr(found, key), getattr(data, key)), key
            assert getattr(found, key).dtype == getattr(data, key).dtype
    assert minari.load_dataset("toy/mixed-v0").total_episodes == 3
    assert "jax" not in sys.modules
    with pytest.raises(UserError, match="cannot write the Minari dataset 'toy/mixed-v0'"):
        save_minari(data, "toy/mixed-v0", gym.spaces.Box(-1, 1, (1,)))


def test_several_rewards_go_out_and_in_again() -> None:
    data = load_dataset("point-maze-energy")
    some = data.select(np.arange(data.episode_slices[2].stop))
    save_minari(some, "toy/energy-v0", gym.spaces.Box(-1, 1, (2,)))
    found = load_dataset("minari:toy/energy-v0")
    assert np.array_equal(found.rewards, some.rewards)
    assert found.reward_dim == 2


def test_goal_dictionaries_are_flattened_and_adapted() -> None:
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    observations = {
        key: rng.normal(size=(4, width))
        for key, width in (("observation", 3), ("achieved_goal", 2), ("desired_goal", 2))
    }
    episode = EpisodeBuffer(
        id=0, observations=observations, actions=[np.zeros(1)] * 3, rewards=[0.0, 0.0, 1.0],
        terminations=[False] * 3, truncations=[False] * 3, infos={},
    )  # fmt: skip
    spaces = {key: gym.spaces.Box(-np.inf, np.inf, value.shape[1:], np.float64) for key, value in observations.items()}
    minari.create_dataset_from_buffers(
        "toy/goals-v0", [episode], action_space=gym.spaces.Box(-1, 1, (1,)), observation_space=gym.spaces.Dict(spaces)
    )
    found = load_minari("toy/goals-v0")
    flat = np.concatenate([observations["observation"], observations["desired_goal"]], -1).astype(np.float32)
    assert np.array_equal(found.observations, flat[:-1])
    assert np.array_equal(found.next_observations, flat[1:])
    assert found.truncated.tolist() == [False, False, True]  # a recording that ends is cut, not terminated
    adapter = observation_adapter("AntMaze_UMaze-v5")
    assert adapter is not None
    assert adapter(observations)["observation"].shape == (4, 5)


@pytest.mark.slow
def test_what_cannot_be_fetched_is_one_clear_error() -> None:
    save_minari(make_dataset(), "toy/here-v0", gym.spaces.Box(-1, 1, (1,)))
    with pytest.raises(
        UserError, match=r"'no/such-v0' is not on this machine and could not be fetched .*here are: toy/here-v0"
    ):
        load_minari("no/such-v0")


def test_a_full_disk_is_known_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"cannot write 'toy/full-v0': it needs \d+ bytes, .* has 10 left"):
        save_minari(make_dataset(), "toy/full-v0", gym.spaces.Box(-1, 1, (1,)))
    assert not list(tmp_path.rglob("*.hdf5"))


def test_dictionaries_of_boxes_are_flattened_as_a_task_of_that_space_would(tmp_path: Path) -> None:
    space = gym.spaces.Dict({"b": gym.spaces.Box(-1, 1, (2,)), "a": gym.spaces.Box(-1, 1, (1,))})
    seen = {"b": np.arange(8.0).reshape(4, 2), "a": np.full((4, 1), 9.0)}
    episode = SimpleNamespace(
        observations=seen, actions=np.zeros((3, 1)), rewards=np.arange(3), terminations=[0, 0, 0], truncations=[0, 0, 1]
    )
    spec = SimpleNamespace(dataset_id="toy/dict-v0", env_spec=None, observation_space=space)
    data = from_minari(SimpleNamespace(spec=spec, iterate_episodes=lambda: [episode]))
    assert data.observations[1].tolist() == [9, 2, 3]  # gymnasium sorts the keys
    assert data.next_observations[2].tolist() == [9, 6, 7]
    assert data.name == "toy/dict-v0"
