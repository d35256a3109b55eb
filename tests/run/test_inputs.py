from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

import balrl
from balrl.data.dataset import Dataset
from balrl.data.writer import save_d4rl
from balrl.errors import UserError
from balrl.run.inputs import take
from tests.conftest import make_dataset
from tests.faulty_env import FaultyEnv
from tests.run.small import SMALL, Interrupt, final_state

SETTINGS = {**SMALL, "data.max_episode_steps": 8, "num_envs": 2}


def arrays(rows: int = 64) -> dict[str, np.ndarray]:
    """Walks of eight steps, as a user's own loop may have kept them."""
    t = np.arange(rows) % 8
    return {
        "observations": np.stack([t, t], -1).astype(np.float64),
        "actions": np.sin(np.arange(rows))[:, None],
        "rewards": np.sin(np.arange(rows)),
        "terminals": np.zeros(rows, bool),
        "timeouts": t == 7,
    }


def config(**settings: Any) -> balrl.TrainConfig:
    return balrl.load_config("iql/locomotion", settings={**SETTINGS, **settings})


def test_names_stay_names() -> None:
    named, given = take(config(), dataset=Path("a.hdf5"), env="Hopper-v5")
    assert (named.dataset, named.env) == ("a.hdf5", "Hopper-v5")
    assert given == (None, None)


def test_objects_are_named_after_what_they_are() -> None:
    named, given = take(config(), dataset=arrays(), env=lambda: SyncVectorEnv([FaultyEnv] * 3))
    assert (named.dataset, named.env, named.num_envs) == ("given:arrays", "given:SyncVectorEnv", 3)
    assert given.dataset is not None
    assert len(given.dataset) == 56  # a last row of each walk has no successor


def test_options_of_another_task_are_not_kept() -> None:
    maze = balrl.load_config("iql/point-maze", settings={"env_kwargs": {"layout": "large"}})
    assert take(maze, env="Hopper-v5")[0].env_kwargs == {}
    assert take(maze, env="balrl/PointMaze-v0")[0].env_kwargs == {"layout": "large"}


def test_the_task_is_the_one_that_the_data_names(tmp_path: Path) -> None:
    data = Dataset.from_arrays(arrays(), env_id="Walker2d-v5")
    save_d4rl(data, tmp_path / "walks.hdf5")
    for given in (data, tmp_path / "walks.hdf5"):
        assert take(config(), dataset=given)[0].env == "Walker2d-v5"
    assert take(config(), dataset=data, env="Hopper-v5")[0].env == "Hopper-v5"
    with pytest.raises(UserError, match="which task\\? the configuration names none, and 'given:toy' names none"):
        take(config(), dataset=make_dataset())
    with pytest.raises(UserError, match="and there is no dataset that could name one: pass --env ID"):
        take(config())


def test_other_data_is_refused() -> None:
    with pytest.raises(UserError, match="dataset is int, expected a path, a balrl Dataset"):
        take(config(), dataset=3)


def test_a_run_on_objects_resumes_with_them_to_the_bit(tmp_path: Path) -> None:
    objects: dict[str, Any] = {"dataset": arrays(), "env": FaultyEnv}
    whole = balrl.train(config(), tmp_path / "whole", **objects)
    assert whole.finished
    assert whole.summary["env"] == "given:FaultyEnv"
    assert whole.summary["dataset_fingerprint"] == Dataset.from_arrays(arrays()).fingerprint()
    assert len(whole.summary["task_fingerprint"]) == 24
    cut = balrl.train(config(), tmp_path / "cut", Interrupt(8, crash=False), **objects)
    assert not cut.finished
    for missing, what in (({"env": FaultyEnv}, "dataset"), ({"dataset": arrays()}, "env")):
        with pytest.raises(UserError, match=rf"the run's {what} was an object .* hand it over again, {what}=…"):
            balrl.resume(tmp_path / "cut", **missing)
    with pytest.raises(UserError, match="its contents changed"):
        balrl.resume(tmp_path / "cut", dataset=arrays(72), env=FaultyEnv)
    with pytest.raises(UserError, match="its spaces or its step limit changed"):
        balrl.resume(tmp_path / "cut", dataset=arrays(), env=lambda: gym.wrappers.TimeLimit(FaultyEnv(), 5))
    assert balrl.resume(tmp_path / "cut", **objects).finished
    offline = {name: value for name, value in final_state(tmp_path / "whole").items() if "agent/" in name}
    assert offline.keys() == {name for name in final_state(tmp_path / "cut") if "agent/" in name}
    assert balrl.evaluate(tmp_path / "cut", FaultyEnv, episodes=2).lengths == (8, 8)


def test_a_minari_dataset_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    from balrl.data.minari import save_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = Dataset.from_arrays(arrays())
    save_minari(data, "walks/toy-v0", FaultyEnv.action_space)
    _, given = take(config(), dataset=minari.load_dataset("walks/toy-v0"), env=FaultyEnv)
    assert given.dataset is not None
    assert given.dataset.name == "walks/toy-v0"
    assert given.dataset.fingerprint() == data.fingerprint()


def test_members_of_a_population_share_what_is_handed_over(tmp_path: Path) -> None:
    members = balrl.member_configs(config(), [0, 1])
    with pytest.raises(UserError, match="a population needs worlds for every member"):
        balrl.train_population(members, tmp_path, dataset=arrays(), env=SyncVectorEnv([FaultyEnv] * 2))
    ended = balrl.train_population(members, tmp_path, dataset=arrays(), env=FaultyEnv)
    assert all(result.finished for result in ended.values())
